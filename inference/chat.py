"""Prompts as a turn of a conversation, in the words of the model's own chat template."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import TemplateError

from inference.errors import InvalidInput
from inference.language_models import LanguageModel
from inference.text import check_text


class ModelWithoutChat(InvalidInput):
    """A model whose tokenizer has no chat template."""

    code = "model-without-chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatText:
    """A formatted prompt without its BOS, which tokenizing adds; what the user wrote is at [start, end) of `text`."""

    text: str
    start: int
    end: int


def as_chat(model: LanguageModel, text: str) -> ChatText:
    """Return a text as the user's turn, with what the template puts before the answer.

    Raises EmptyText, InvalidText, ModelWithoutChat, and InvalidInput for a template that refuses the text.
    """
    check_text(text)
    if not model.tokenizer.chat_template:
        raise ModelWithoutChat(
            f"The tokenizer of {model.name} has no chat template.", "Send the text as it is.", model=model.name
        )
    turn = [{"role": "user", "content": text}]
    try:
        formatted = model.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError) as error:
        raise InvalidInput(
            f"The chat template of {model.name} refuses the text: {str(error)[:200]}", "Send the text as it is."
        ) from error
    # Templates write the BOS themselves.
    formatted = formatted.removeprefix(model.tokenizer.bos_token or "")
    # Many templates strip what they are given.
    shown = text if text in formatted else text.strip()
    start = formatted.rfind(shown)
    end = start + len(shown) if start >= 0 else len(formatted)
    return ChatText(text=formatted, start=max(0, start), end=end)
