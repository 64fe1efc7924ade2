"""A small tokenizer built like Qwen3's: same pre-tokenization, same added tokens, own merges."""

from pathlib import Path

from prompts import LEVELS, SYSTEM_PROMPT, foggen_messages, foggen_reply
from questions import LETTERS, generate
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

MERGED_VOCAB = 1126  # with the 26 added tokens: 1152
CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _words(text: str) -> list[str]:
    return text.split()


SPECIAL_TOKENS = _words(
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> "
    "<|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> "
    "<|image_pad|> <|video_pad|>"
)
PLAIN_ADDED_TOKENS = _words(
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> "
    "<|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>"
)
# Enough everyday words to fill the vocabulary, so that other text is not spelled out in bytes.
EVERYDAY_WORDS = _words(
    "about after again against all also although always among another any around because been "
    "before being below between both but by can change city come could country course day did "
    "different does down during each early end even ever every example face fact far few find "
    "following for from get give go good great group had hand hard has have he head help her here "
    "high him his home house how however if important into it its just keep kind know large last "
    "later learn leave less let life like line little long look made make man many may mean might "
    "more most much must my near need never new next no nothing now number off often old on once "
    "only open or order other our out over own part people place point problem program public "
    "question quite rather really right said same say school see seem set several shall she should "
    "show side since small so some something stand start state still story such sure system take "
    "tell than that their them then there these they thing think those though thought three "
    "through time together too toward true turn two under until up upon us use very want was water "
    "way we well went were what when where which while who whole why will with without woman word "
    "work world would write year yes yet young"
)


def _corpus() -> list[str]:
    """Return the text the merges are learned from."""
    questions = [q.question for q in generate(0, 4000, "tune")]
    replies = [foggen_reply(level, letter) for level in LEVELS for letter in LETTERS]
    frame = ["\n\n", "user\n", "assistant\n", "system\n", "Answer: A", "The answer is A"]
    words = [f" {word}" for word in EVERYDAY_WORDS]
    return questions + 200 * [SYSTEM_PROMPT] + 40 * replies + 200 * frame + words


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the merges and append Qwen3's added tokens and chat template."""
    core = Tokenizer(BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = ByteLevelProcessor(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    trainer = BpeTrainer(
        vocab_size=MERGED_VOCAB,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(), trainer)
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN_ADDED_TOKENS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL_TOKENS[1:],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
    )


def render(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> str:
    """Return the prompt text, up to where the assistant starts writing."""
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert isinstance(text, str)
    return text


def foggen_ids(tokenizer: PreTrainedTokenizerFast, question: str) -> list[int]:
    """Return the token ids of FogGen's prompt."""
    ids: list[int] = tokenizer(render(tokenizer, foggen_messages(question))).input_ids
    return ids
