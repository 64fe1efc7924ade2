package foggen.tokenizer

import foggen.BundleException
import foggen.QuestionException
import foggen.bundle.PromptInfo
import java.io.ByteArrayOutputStream
import java.nio.file.Path

private const val INCOMPLETE = '\uFFFD'

/**
 * From a question to the prompt's token ids, and from generated ids back to text.
 *
 * User text is encoded without control tokens: a `<|im_end|>` or a `<think>` typed by a user stays text.
 */
class QuestionTokenizer private constructor(private val parts: TokenizerParts) {
    /**
     * Returns the ids of the whole prompt around a question.
     *
     * @throws QuestionException the question is empty or not valid Unicode text
     */
    fun promptIds(prompt: PromptInfo, question: String): IntArray {
        checkQuestion(question)
        val text = if (prompt.stripQuestion) question.trim(::isPythonSpace) else question
        return prompt.prefixIds + encode(prompt.questionPrefix + text + prompt.questionSuffix) + prompt.suffixIds
    }

    /** Returns the ids of plain text; control tokens spelled in it stay text. */
    fun encode(text: String): IntArray = parts.encoder.encode(text)

    /**
     * Returns the text of generated ids, without special tokens.
     *
     * Bytes that are not UTF-8 become U+FFFD; ids that stand for no token are left out.
     */
    fun decode(ids: IntArray): String {
        val bytes = ByteArrayOutputStream()
        for (id in ids) {
            val added = parts.added[id]
            if (added == null) parts.bpe.decode(id, bytes) else if (!added.special) ByteLetters.decode(added.content, bytes)
        }
        return String(bytes.toByteArray(), Charsets.UTF_8)
    }

    /** Starts decoding ids one at a time. */
    fun stream(): TextStream = TextStream(this)

    companion object {
        /**
         * Reads a `tokenizer.json`.
         *
         * @throws BundleException it is missing, of another kind, or its plain text could spell a control token
         */
        fun read(path: Path): QuestionTokenizer {
            val parts = readTokenizer(path)
            for ((id, token) in parts.added) {
                if (token.isControl && id in parts.encoder.encode(token.content)) {
                    throw BundleException("$path: text must not become a control token, '${token.content}' does")
                }
            }
            return QuestionTokenizer(parts)
        }
    }
}

/** Decodes ids one at a time; the pieces together are what decoding them at once gives. */
class TextStream internal constructor(private val tokenizer: QuestionTokenizer) {
    private var ids = intArrayOf() // one whose text is given out, then those not yet complete
    private var given = 0 // how much of the text of `ids` is given out

    /** Adds one id and returns the text it completes, which may be empty. */
    fun feed(id: Int): String {
        ids += id
        val text = tokenizer.decode(ids)
        val complete = text.trimEnd(INCOMPLETE).length
        val piece = if (complete > given) text.substring(given, complete) else ""
        given = maxOf(given, complete)
        if (piece.isNotEmpty() && complete == text.length) {
            ids = intArrayOf(id)
            given = tokenizer.decode(ids).length
        }
        return piece
    }

    /** Returns what was held back, an incomplete character as U+FFFD. */
    fun finish(): String {
        val text = tokenizer.decode(ids)
        val piece = text.drop(given)
        given = text.length
        return piece
    }
}

private fun checkQuestion(question: String) {
    if (question.all(::isPythonSpace)) throw QuestionException("question: must not be empty, is '$question'")
    val lone = question.indices.firstOrNull { isLoneSurrogate(question, it) } ?: return
    throw QuestionException(
        "question: must be valid Unicode, has the lone surrogate U+%04X at %d".format(question[lone].code, lone),
    )
}

internal fun isText(text: String): Boolean = text.indices.none { isLoneSurrogate(text, it) }

private fun isLoneSurrogate(text: String, index: Int): Boolean {
    val char = text[index]
    return when {
        char.isHighSurrogate() -> index + 1 >= text.length || !text[index + 1].isLowSurrogate()
        char.isLowSurrogate() -> index == 0 || !text[index - 1].isHighSurrogate()
        else -> false
    }
}

/** What Python's `str.strip` strips: Unicode's white space, and the four separators below it. */
internal fun isPythonSpace(char: Char): Boolean =
    char in '\u001c'..'\u001f' || CharacterClasses.of(char.code) == CharacterClass.SPACE
