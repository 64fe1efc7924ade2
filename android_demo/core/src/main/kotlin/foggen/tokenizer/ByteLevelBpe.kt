package foggen.tokenizer

import java.io.ByteArrayOutputStream
import java.text.Normalizer
import java.util.PriorityQueue

/**
 * Byte-level BPE as Qwen's tokenizers do it: NFC, Qwen's pieces, then merges by rank.
 *
 * It has no added tokens: whatever a text spells stays text. [WordEncoder] knows ordinary ones.
 */
internal class ByteLevelBpe(private val vocabulary: Vocabulary, private val merges: Merges) {
    private val byteIds = IntArray(256) { vocabulary.idOf(byteArrayOf(it.toByte())) }

    /** Appends the token ids of a text in NFC. */
    fun encodeNormal(text: String, ids: IntList) {
        QwenSplit.forEach(text) { start, end -> encodePiece(text.substring(start, end).toByteArray(), ids) }
    }

    /** Appends the bytes that an id stands for; false if it stands for none. */
    fun decode(id: Int, out: ByteArrayOutputStream): Boolean {
        if (!vocabulary.contains(id)) return false
        out.write(vocabulary.bytesOf(id))
        return true
    }

    private fun encodePiece(piece: ByteArray, ids: IntList) {
        val symbols = IntArray(piece.size) { byteIds[piece[it].toInt() and 0xff] }
        // A doubly linked list of what is not merged away; the ends are -1 and the size.
        val next = IntArray(symbols.size) { it + 1 }
        val previous = IntArray(symbols.size) { it - 1 }
        // Rank above position: the earliest merge, and of equal ones the leftmost, comes first.
        val queue = PriorityQueue<Long>()
        for (at in 0 until symbols.size - 1) offer(queue, symbols, at, at + 1)
        while (true) {
            val entry = queue.poll() ?: break
            val at = Merges.merged(entry)
            val after = next[at]
            if (symbols[at] == GONE || after >= symbols.size) continue
            val found = merges.find(symbols[at], symbols[after])
            if (found == Merges.EMPTY || Merges.rank(found) != Merges.rank(entry)) continue
            symbols[at] = Merges.merged(found)
            symbols[after] = GONE
            next[at] = next[after]
            if (next[at] < symbols.size) {
                previous[next[at]] = at
                offer(queue, symbols, at, next[at])
            }
            if (previous[at] >= 0) offer(queue, symbols, previous[at], at)
        }
        for (symbol in symbols) if (symbol != GONE) ids.add(symbol)
    }

    private fun offer(queue: PriorityQueue<Long>, symbols: IntArray, left: Int, right: Int) {
        val found = merges.find(symbols[left], symbols[right])
        if (found != Merges.EMPTY) queue.add(Merges.pair(Merges.rank(found), left))
    }

    private companion object {
        const val GONE = -2
    }
}

// A letter has at most a few (UAX #15, section 13, allows 30).
private const val MOST_MARKS = 30
private val MARKS = setOf(Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.COMBINING_SPACING_MARK)

/**
 * Returns a text in Unicode's form NFC.
 *
 * Java sorts the marks after a letter in quadratic time, so a longer row of them, which no language
 * writes, is taken in parts.
 */
internal fun composed(text: String): String {
    val out = StringBuilder(text.length)
    var start = 0
    var marks = 0
    var at = 0
    while (at < text.length) {
        val code = text.codePointAt(at)
        marks = if (Character.getType(code).toByte() in MARKS) marks + 1 else 0
        if (marks > MOST_MARKS) {
            out.append(Normalizer.normalize(text.substring(start, at), Normalizer.Form.NFC))
            start = at
            marks = 1
        }
        at += Character.charCount(code)
    }
    return out.append(Normalizer.normalize(text.substring(start), Normalizer.Form.NFC)).toString()
}

/** A growing list of unboxed integers. */
internal class IntList {
    private var items = IntArray(64)
    private var size = 0

    fun add(item: Int) {
        if (size == items.size) items = items.copyOf(2 * size)
        items[size++] = item
    }

    fun toArray(): IntArray = items.copyOf(size)
}
