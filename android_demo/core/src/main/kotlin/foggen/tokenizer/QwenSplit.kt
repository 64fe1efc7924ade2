package foggen.tokenizer

import foggen.tokenizer.CharacterClass.LETTER
import foggen.tokenizer.CharacterClass.NUMBER
import foggen.tokenizer.CharacterClass.OTHER
import foggen.tokenizer.CharacterClass.SPACE

/**
 * Qwen's pre-tokenizer: cuts text into the pieces that tokens never cross.
 *
 * Written out by hand because Java's, Android's and Hugging Face's regular expressions each know
 * another Unicode; the tests compare it with Hugging Face's.
 */
internal object QwenSplit {
    /** The regular expression in `tokenizer.json` that this object stands for. */
    const val PATTERN =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
            "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

    private val CONTRACTIONS = listOf("s", "t", "re", "ve", "m", "ll", "d")

    /** Calls [piece] with the start and end of each piece, in UTF-16 units. */
    inline fun forEach(text: String, piece: (Int, Int) -> Unit) {
        var start = 0
        while (start < text.length) {
            val end = endOfPiece(text, start)
            piece(start, end)
            start = end
        }
    }

    fun endOfPiece(text: String, start: Int): Int {
        val first = text.codePointAt(start)
        val second = start + Character.charCount(first)
        val kind = CharacterClasses.of(first)
        contractionEnd(text, start)?.let { return it }
        if (kind == LETTER) return runEnd(text, second, LETTER)
        if (kind == NUMBER) return second
        if (!isLineEnd(first) && kindAt(text, second) == LETTER) return runEnd(text, second, LETTER)
        if (kind == OTHER || (first == ' '.code && kindAt(text, second) == OTHER)) {
            return lineEndsEnd(text, runEnd(text, second, OTHER))
        }
        return spacesEnd(text, start)
    }

    /** `(?i:'s|'t|'re|'ve|'m|'ll|'d)`; ignoring case, the long s counts as an s there and here. */
    private fun contractionEnd(text: String, start: Int): Int? {
        if (text[start] != '\'') return null
        val found = CONTRACTIONS.firstOrNull { text.regionMatches(start + 1, it, 0, it.length, ignoreCase = true) }
        return found?.let { start + 1 + it.length }
    }

    /** `\s*[\r\n]+`, else `\s+(?!\S)`, else `\s+`. */
    private fun spacesEnd(text: String, start: Int): Int {
        val end = runEnd(text, start, SPACE)
        val lineEnd = (end - 1 downTo start).firstOrNull { isLineEnd(text[it].code) }
        return when {
            lineEnd != null -> lineEnd + 1
            end == text.length || end == start + 1 -> end
            else -> end - 1
        }
    }

    private fun runEnd(text: String, from: Int, kind: CharacterClass): Int {
        var end = from
        while (kindAt(text, end) == kind) end += Character.charCount(text.codePointAt(end))
        return end
    }

    private fun lineEndsEnd(text: String, from: Int): Int {
        var end = from
        while (end < text.length && isLineEnd(text[end].code)) end++
        return end
    }

    private fun kindAt(text: String, index: Int): CharacterClass? =
        if (index < text.length) CharacterClasses.of(text.codePointAt(index)) else null

    private fun isLineEnd(codePoint: Int): Boolean = codePoint == '\r'.code || codePoint == '\n'.code
}
