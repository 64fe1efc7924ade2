package foggen.tokenizer

internal enum class CharacterClass { LETTER, NUMBER, SPACE, OTHER }

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
