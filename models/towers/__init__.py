"""Pretrained image towers: pictures in, feature maps out. They know nothing of the systems that read them."""
