"""Chat templates of other families, without the parts for tools, and tokenizers that know them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tests.support.tokenizers import gemma_tokenizer, tiny_tokenizer

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_QWEN2_5 = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful \
assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or \
(message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
_LLAMA_3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


_GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {{- message['content'] | trim }}
    {{- '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""


@dataclass(frozen=True)
class ChatFormat:
    """How a family writes a conversation.

    Attributes:
        template: In Jinja.
        controls: The tokens that only the template may write.
        cut: What the part that is read once ends with.
        question_prefix: What stands between that and the question.
        end: What ends a turn.
        base: Makes a tokenizer that may lack the control tokens.
    """

    template: str
    controls: tuple[str, ...]
    cut: str
    question_prefix: str
    end: str
    base: Callable[[], PreTrainedTokenizerFast] = tiny_tokenizer

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, with the family's control tokens and template."""
        tokenizer = copy.deepcopy(self.base())
        added = [AddedToken(content, normalized=False) for content in self.controls]
        tokenizer.add_tokens(added, special_tokens=True)
        tokenizer.bos_token = self.controls[0]
        tokenizer.chat_template = self.template
        return tokenizer


CHAT_FORMATS = {
    "smollm2": ChatFormat(_SMOLLM2, _CHATML, "<|im_start|>", "user\n", "<|im_end|>"),
    "qwen2.5": ChatFormat(_QWEN2_5, _CHATML, "<|im_start|>", "user\n", "<|im_end|>"),
    "llama-3": ChatFormat(
        _LLAMA_3,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
            "<|reserved_special_token_0|>",
        ),
        "<|end_header_id|>",
        "\n\n",
        "<|eot_id|>",
    ),
    "gemma-3": ChatFormat(
        _GEMMA,
        ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
        "<OPTION_LETTER>",
        "\n\n",
        "<end_of_turn>",
        gemma_tokenizer,
    ),
}
