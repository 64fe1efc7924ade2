package foggen.tokenizer

import java.io.ByteArrayOutputStream
import java.text.Normalizer
import java.util.PriorityQueue

/**
 * Byte-level BPE as Qwen's tokenizers do it: NFC, Qwen's pieces, then merges by rank.
 *
 * It has no added tokens: whatever a text spells stays text.
 */
internal class ByteLevelBpe(private val vocabulary: Vocabulary, private val merges: Merges) {
    private val byteIds = IntArray(256) { vocabulary.idOf(byteArrayOf(it.toByte())) }

    /** Returns the token ids of a text. */
    fun encode(text: String): IntArray {
        val ids = IntList()
        val normal = if (Normalizer.isNormalized(text, Normalizer.Form.NFC)) text else Normalizer.normalize(text, Normalizer.Form.NFC)
        QwenSplit.forEach(normal) { start, end -> encodePiece(normal.substring(start, end).toByteArray(), ids) }
        return ids.toArray()
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
