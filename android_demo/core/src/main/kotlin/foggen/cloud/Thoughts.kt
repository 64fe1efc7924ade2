package foggen.cloud

// What a model thinks aloud before it answers, as servers without a parser for it leave it in the text.
private val TAGS = mapOf(
    "<think>" to "</think>",
    "<thinking>" to "</thinking>",
    "<thought>" to "</thought>",
    "<seed:think>" to "</seed:think>",
    "[THINK]" to "[/THINK]",
)
private val OPENING = Regex(TAGS.keys.joinToString("|", transform = Regex::escape))
private val CLOSING = Regex(TAGS.values.joinToString("|", transform = Regex::escape))
private val BLOCK = Regex("(?:${OPENING.pattern}).*?(?:${CLOSING.pattern}|\\z)", RegexOption.DOT_MATCHES_ALL)

/**
 * Takes the blocks of thoughts from the beginning of a text that comes in pieces.
 *
 * Further on in the text a tag is taken for a part of the answer, which may be about tags.
 */
internal class ThoughtFilter {
    private var rest = "" // what may be the beginning of a tag, or white space before one
    private var closing: String? = null // within a block
    private var answering = false

    /** Whether the text began with a block. */
    var thought = false
        private set

    /** Returns what the next piece adds to the answer. */
    fun feed(piece: String): String {
        rest += piece
        while (!answering) {
            val clear = closing?.let(::leaveBlock) ?: enterBlock()
            if (!clear) return ""
        }
        return rest.also { rest = "" }
    }

    /** Returns what a text that ends here still adds to the answer. */
    fun finish(): String = (if (closing == null) rest else "").also { rest = "" }

    /** Enters a block or the answer; tells whether there was enough to see which. */
    private fun enterBlock(): Boolean {
        val start = rest.trimStart()
        for ((open, close) in TAGS) {
            if (!start.startsWith(open)) continue
            rest = start.removePrefix(open)
            closing = close
            thought = true
            return true
        }
        if (TAGS.keys.any { it.startsWith(start) }) return false
        answering = true
        if (thought) rest = start
        return true
    }

    /** Leaves the block, if its end is there. */
    private fun leaveBlock(close: String): Boolean {
        val end = rest.indexOf(close)
        if (end < 0) {
            rest = rest.takeLast(close.length - 1) // may begin the closing tag
            return false
        }
        rest = rest.substring(end + close.length)
        closing = null
        return true
    }
}

/**
 * Returns the answer of a text whose block of thoughts the chat template opened.
 *
 * Such a text has a closing tag with no opening one before; any other one is all answer.
 */
internal fun afterUnopened(text: String): String {
    val closing = CLOSING.find(text) ?: return text
    if (OPENING.find(text)?.let { it.range.first < closing.range.first } == true) return text
    return text.substring(closing.range.last + 1).trimStart()
}

/** Returns the text without any block of thoughts, wherever it is and even if it never ends. */
internal fun withoutThoughts(text: String): String = BLOCK.replace(afterUnopened(text), "")
