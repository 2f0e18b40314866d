"""The chat interface that clients of OpenAI's speak: a message with an image in, a caption or an answer out."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.asked import GUIDANCE, MAX_BEAMS, SEARCH, Refused, answer_ask, caption_ask, number
from serving.systems import AnswerAsk, Answers, CaptionAsk, System

#: Settings of a chat that say how many tokens may be written.
_LENGTHS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True)
class Message:
    """The images, as data: URLs, and the text that a conversation ends with."""

    images: tuple[Any, ...]
    text: str


def last_message(body: Mapping[str, Any]) -> Message:
    """The text of the last message of the user, and the images of the last one that has any."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list that is not empty")
    read = [_message(one) for one in messages if isinstance(one, dict) and one.get("role") == "user"]
    if not read:
        raise Refused(400, "messages has none of the role user: add one with an image")
    images = next((one.images for one in reversed(read) if one.images), ())
    return Message(images, read[-1].text)


def chat_ask(system: System, style: str | None, body: Mapping[str, Any]) -> tuple[CaptionAsk | AnswerAsk, int]:
    """What a chat asks of a model, and how many choices are wanted."""
    message = last_message(body)
    count = int(number(body, "n", 1, MAX_BEAMS)) if body.get("n") is not None else 1
    if isinstance(system, Answers):
        return answer_ask(system, {"top": max(count, 5)}, message.images, message.text), count
    style = body.get("style") if body.get("style") is not None else style
    if style is None:
        raise Refused(
            400,
            f"no style: name one in model ({system.name}/STYLE) or under style; /v1/models has {len(system.styles)}",
        )
    known = (*SEARCH, *GUIDANCE, "intensity", "adapter")
    settings: dict[str, Any] = {name: value for name, value in body.items() if name in known}
    low, high = SEARCH["max_len_b"]
    length = next((body[name] for name in _LENGTHS if body.get(name) is not None), None)
    if length is not None:
        number({"max_tokens": length}, "max_tokens", 1, 2**31)
        settings.setdefault("max_len_b", int(min(max(length, low), high)))
    if count > 1:
        settings["beam_size"] = max(count, settings.get("beam_size") or 0)
    if len(message.images) != 1:
        raise Refused(400, f"a caption needs one image, not {len(message.images)}: send one as an image_url part")
    return caption_ask(system, settings, message.images[0], [style]), count


def completion(model: str, texts: list[tuple[str, bool]]) -> dict[str, Any]:
    """A chat completion of these texts; each with whether it was written to its end."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": "stop" if ended else "length",
            "logprobs": None,
        }
        for index, (text, ended) in enumerate(texts)
    ]
    return {**_head(model, "chat.completion"), "choices": choices}


def streamed(model: str, texts: list[tuple[str, bool]]) -> bytes:
    """The same as server-sent events: a search has its text only when it ends, so each choice is one piece."""
    head = _head(model, "chat.completion.chunk")
    events = []
    for index, (text, ended) in enumerate(texts):
        start = {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        end = {"index": index, "delta": {}, "finish_reason": "stop" if ended else "length"}
        events += [json.dumps(head | {"choices": [choice]}) for choice in (start, end)]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content")
    if isinstance(content, str):
        return Message((), content)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise Refused(400, "the content of a message must be a text, or a list of parts")
    images, texts = [], []
    for part in content:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") == "image_url":
            named = part.get("image_url")
            images.append(named.get("url") if isinstance(named, dict) else named)
        else:
            raise Refused(400, "a part of a message must be of the type text or image_url")
    return Message(tuple(images), " ".join(texts))
