package foggen.tokenizer

internal enum class CharacterClass { LETTER, NUMBER, SPACE, OTHER }

/** What `\w` matches in the regular expressions by which Hugging Face's tokenizers see whole words. */
internal object WordCharacters {
    // Where ranges begin and end, in turn.
    private val bounds: IntArray

    init {
        var at = 0
        bounds = UnicodeRanges.WORDS.split(' ').map { at += it.toInt(36); at }.toIntArray()
    }

    operator fun contains(codePoint: Int): Boolean {
        val found = bounds.binarySearch(codePoint)
        return (if (found >= 0) found + 1 else -found - 1) % 2 == 1
    }
}

/** The class of every code point, as the regular expressions of Hugging Face's tokenizers see it. */
internal object CharacterClasses {
    // Code points at which a class begins, ascending, and which.
    private val starts: IntArray
    private val classes: Array<CharacterClass>

    init {
        val bounds = sortedMapOf(0 to CharacterClass.OTHER)
        mark(UnicodeRanges.LETTERS, CharacterClass.LETTER, bounds)
        mark(UnicodeRanges.NUMBERS, CharacterClass.NUMBER, bounds)
        mark(UnicodeRanges.SPACES, CharacterClass.SPACE, bounds)
        starts = bounds.keys.toIntArray()
        classes = bounds.values.toTypedArray()
    }

    fun of(codePoint: Int): CharacterClass {
        val found = starts.binarySearch(codePoint)
        return classes[if (found >= 0) found else -found - 2]
    }

    private fun mark(packed: String, kind: CharacterClass, bounds: MutableMap<Int, CharacterClass>) {
        var end = 0
        packed.split(' ').map { it.toInt(36) }.chunked(2).forEach { (gap, length) ->
            val start = end + gap
            end = start + length
            bounds[start] = kind
            bounds.getOrPut(end) { CharacterClass.OTHER }
        }
    }
}
