"""The questions about style that stand beside captions in step 1."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ofa.styles import StyleMap
from models.ofa.tokenization import BOS, EOS, PAD
from preprocessors.collate import collate
from preprocessors.prompts import Prompt
from preprocessors.style_tasks import MASK, TASKS, Question, StyleTasks, answer_after, mask_words
from tests.models.nano import nano_preprocessor

PROMPT = Prompt(" write a {} reply.", True, StyleMap.from_styles(["Sweet", "Cynical"]), "error")
ALL = StyleTasks(mask_style=True, mask_caption=True, matching=True, mask_ratio=0.5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=4), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_whole_words_are_masked_at_the_ratio_and_at_least_one(words, ratio, seed):
    caption = "".join(f" {word}" for word in words)
    masked = mask_words(caption, ratio, seeded(seed))
    found = masked.replace(MASK, f" {MASK}").split()
    assert len(found) == len(words)
    assert all(after in (before, MASK) for before, after in zip(words, found, strict=True))
    assert found.count(MASK) == min(len(words), max(1, round(ratio * len(words))))
    assert mask_words(caption, ratio, seeded(seed)) == masked


def test_an_empty_caption_has_nothing_to_mask():
    assert mask_words("", 0.5, seeded(0)) == ""


def test_mask_style_asks_for_the_prompt_with_its_style():
    tasks = StyleTasks(mask_style=True)
    assert tasks.questions([("Cynical", " a dog")], PROMPT, seeded(0)) == [
        Question(1, 0, " write a <mask> reply. a dog", " write a <code_1> reply.")
    ]


def test_mask_caption_gives_the_style_and_asks_for_the_caption():
    tasks = StyleTasks(mask_caption=True, mask_ratio=0.1)
    assert tasks.questions([("sweet", " dog")], PROMPT, seeded(0)) == [
        Question(2, 0, ' what is the complete text of "<mask>"? write a <code_0> reply.', " dog")
    ]


def test_matching_answers_are_true():
    tasks = StyleTasks(matching=True)
    seen = set()
    for seed in range(40):
        [asked_once] = tasks.questions([("Sweet", " a dog")], PROMPT, seeded(seed), " a cat")
        text, answer = asked_once.text, asked_once.answer
        assert (asked_once.task, asked_once.row, asked_once.start) == (3, 0, None)
        asked = ' does the image describe "{} " in personality {}?'
        truth = {
            asked.format(" a dog", "<code_0>"): " yes",
            asked.format(" a cat", "<code_0>"): " no",
            asked.format(" a dog", "<code_1>"): " personality",
        }
        assert truth[text] == answer
        seen.add(answer)
    assert seen == {" yes", " no", " personality"}


def test_without_another_caption_or_style_only_yes_is_left():
    one = Prompt(" write a {} reply.", False, StyleMap.from_styles(["Sweet"]), "error")
    answers = {StyleTasks(matching=True).questions([("Sweet", " a dog")], one, seeded(i))[0].answer for i in range(20)}
    assert answers == {" yes"}


def picture_item(tasks: StyleTasks | None, seed: int = 3, mode: str = "train", **settings: str) -> dict:
    preprocessor = nano_preprocessor(flip=True, patch_image_size=32, **settings)
    preprocessor.mode = mode
    preprocessor.tasks = tasks
    picture = (torch.arange(48 * 48 * 3) % 251).view(48, 48, 3).to(torch.uint8).numpy()
    data = {"image": picture, "image_id": "x", "other_caption": "two birds", "generator": seeded(seed)}
    requests = [_Ask("Sweet", "the blue dog"), _Ask("Cynical", "a red cat")]
    return preprocessor({**data, "samples": requests})


class _Ask:
    image_id = "x"
    references = ()

    def __init__(self, style: str, caption: str):
        self.style, self.caption = style, caption


def test_questions_stand_after_the_captions_of_the_same_picture():
    plain, asked = picture_item(None), picture_item(ALL)
    assert torch.equal(plain["patch_image"], asked["patch_image"])  # crop and flip are drawn before the questions
    assert "tasks" not in plain
    assert asked["tasks"] == [0, 0, 1, 2, 3]
    for part in ("prompts", "captions"):
        assert len(plain[part]) == 2
        assert len(asked[part]) == 5
    assert all(torch.equal(a, b) for a, b in zip(plain["prompts"], asked["prompts"], strict=False))
    batch = collate([asked, picture_item(ALL, seed=4)])
    assert batch["task"].tolist() == [0, 0, 1, 2, 3] * 2
    assert batch["encoder_index"].tolist() == list(range(10))
    assert batch["image_index"].tolist() == [0] * 5 + [1] * 5
    assert len(batch["requests"]) == 10
    assert batch["target"].eq(EOS).sum(1).tolist() == [1] * 10
    assert "task" not in collate([plain])


def test_questions_in_the_decoder_share_the_row_of_their_caption():
    tokenizer = nano_preprocessor().tokenizer
    item = picture_item(replace(ALL, place="decoder"), place="decoder")
    assert item["tasks"] == [0, 0, 1, 2, 3]
    assert len(item["prompts"]) == 1
    assert [row for row, _ in item["captions"]] == [0] * 5
    assert item["decoder_inputs"][:2] == [None, None]
    texts = [str(tokenizer.decode(read.tolist())) for read in item["decoder_inputs"][2:]]
    [style, masked, matched], captions = texts, (" the blue dog</s>", " a red cat</s>")
    assert style in [MASK + caption for caption in captions]
    assert masked.startswith("<code_") and MASK in masked and masked.count("</s>") == 1  # noqa: PT018
    assert matched.startswith("<code_")
    # The style's token, alone and in its own place: after the end of the caption that it is asked of.
    _, target = item["captions"][2]
    own = "<code_0>" if style == MASK + captions[0] else "<code_1>"
    assert target.tolist() == [PAD] * (len(target) - 1) + tokenizer.encode_text(own)
    assert len(target) == len(item["decoder_inputs"][2])
    _, target = item["captions"][3]
    written = target[target.ne(PAD)].tolist()
    assert tokenizer.decode(written) in captions
    assert masked.endswith(str(tokenizer.decode(written[:-1])))
    batch = collate([item, picture_item(replace(ALL, place="decoder"), place="decoder", seed=4)])
    assert batch["encoder_index"].tolist() == [0] * 5 + [1] * 5
    assert batch["even"]
    assert batch["decoder_input_ids"].shape == batch["target"].shape


def test_what_is_read_and_written_by_hand():
    read, target = answer_after(torch.tensor([7, 8, EOS]), torch.tensor([5, 6, EOS]), None)
    assert read.tolist() == [7, 8, EOS, 5, 6]
    assert target.tolist() == [PAD, PAD, 5, 6, EOS]
    read, target = answer_after(torch.tensor([BOS]), torch.tensor([5, 9, 6, EOS]), 9)
    assert read.tolist() == [BOS, 5]
    assert target.tolist() == [PAD, 9]


def test_the_style_alone_is_learnt_of_a_prompt_that_names_it():
    tokenizer = nano_preprocessor().tokenizer
    item = picture_item(StyleTasks(mask_style=True, style_alone=True))
    target, read = item["captions"][2][1], item["decoder_inputs"][2]
    kept = target[target.ne(PAD)]
    assert tokenizer.decode(kept.tolist()) in ("<code_0>", "<code_1>")
    assert tokenizer.decode(read.tolist()) == "<s> what does the image describe? write a "
    # Where the style stands in the decoder, its name is asked for all the same.
    [question] = StyleTasks(mask_style=True).questions(
        [("Cynical", " a dog")], replace(PROMPT, place="decoder"), seeded(0)
    )
    assert question.answer == " write a <code_1> reply."


def test_only_training_asks():
    assert "tasks" not in picture_item(ALL, mode="eval")


def test_questions_depend_on_the_generator_alone():
    first, again, other = (picture_item(ALL, seed)["prompts"][2:] for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_tasks_are_numbered_as_they_are_named():
    assert TASKS == ("caption", "mask_style", "mask_caption", "matching")


@pytest.mark.parametrize("flag", ["mask_style", "mask_caption", "matching"])
def test_a_set_of_tasks_is_true_when_one_is_on(flag):
    assert not StyleTasks()
    on: dict[str, Any] = {flag: True}
    assert StyleTasks(**on)
