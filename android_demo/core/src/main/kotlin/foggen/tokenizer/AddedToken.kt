package foggen.tokenizer

/**
 * A token outside the model's own vocabulary, as `tokenizer.json` describes it.
 *
 * @property special not part of any text
 * @property singleWord not looked for inside a word
 * @property stripsLeft takes in the white space before it
 * @property stripsRight takes in the white space after it
 * @property normalized looked for in normalized text
 */
internal class AddedToken(
    val id: Int,
    val content: String,
    val special: Boolean,
    val singleWord: Boolean,
    val stripsLeft: Boolean,
    val stripsRight: Boolean,
    val normalized: Boolean,
) {
    /**
     * Whether no text may become it: a special token, or one in angle or square brackets.
     *
     * Nothing else tells `<think>` or `<tool_call>` from a word that the vocabulary was extended by.
     */
    val isControl: Boolean
        get() {
            val bare = content.trim(::isPythonSpace)
            val enclosed = bare.codePointCount(0, bare.length) > 2 && "${bare.first()}${bare.last()}" in BRACKETS
            return special || enclosed
        }

    private companion object {
        val BRACKETS = setOf("<>", "[]")
    }
}

/** Encodes text in which ordinary added words are looked for before anything else, as Hugging Face's library does. */
internal class WordEncoder(private val bpe: ByteLevelBpe, words: List<AddedToken>) {
    private val inText = WordFinder(words.filter { !it.normalized }.associateBy { it.content })
    private val inNormalized = WordFinder(words.filter { it.normalized }.associateBy { composed(it.content) })

    /** Returns the token ids of a text. */
    fun encode(text: String): IntArray {
        val ids = IntList()
        inText.split(text, ids::add) { raw -> inNormalized.split(composed(raw), ids::add) { bpe.encodeNormal(it, ids) } }
        return ids.toArray()
    }
}

/** Finds words by the text they are spelled as; the longest where several begin. */
private class WordFinder(words: Map<String, AddedToken>) {
    private val byFirst = words.entries.filter { it.key.isNotEmpty() }.groupBy { it.key[0] }
        .mapValues { (_, found) -> found.sortedByDescending { it.key.length } }

    /** Gives each word's id, and the text between words. */
    inline fun split(text: String, word: (Int) -> Unit, between: (String) -> Unit) {
        var given = 0
        var at = 0
        while (at < text.length) {
            val found = byFirst[text[at]]?.firstOrNull { text.startsWith(it.key, at) }
            if (found == null) {
                at++
                continue
            }
            val end = at + found.key.length
            val token = found.value
            if (!token.singleWord || !isInsideWord(text, at, end)) {
                val start = if (token.stripsLeft) maxOf(spacesStart(text, at), given) else at
                if (given < start) between(text.substring(given, start))
                word(token.id)
                given = if (token.stripsRight) spacesEnd(text, end) else end
            }
            at = end
        }
        if (given < text.length) between(text.substring(given))
    }

    fun isInsideWord(text: String, start: Int, end: Int): Boolean =
        (start > 0 && text.codePointBefore(start) in WordCharacters) || (end < text.length && text.codePointAt(end) in WordCharacters)

    fun spacesStart(text: String, from: Int): Int {
        var start = from
        while (start > 0 && isSpace(text[start - 1])) start--
        return start
    }

    fun spacesEnd(text: String, from: Int): Int {
        var end = from
        while (end < text.length && isSpace(text[end])) end++
        return end
    }

    private fun isSpace(char: Char) = CharacterClasses.of(char.code) == CharacterClass.SPACE
}
