package foggen.tokenizer

/**
 * Every token's bytes by its id, and back; a few megabytes for 150,000 tokens.
 *
 * A hash table over one byte array: a map of strings would take ten times the memory.
 */
internal class Vocabulary(expectedTokens: Int) {
    private var bytes = ByteArray(8 * expectedTokens)
    private var used = 0
    private var starts = IntArray(expectedTokens) { -1 }
    private var ends = IntArray(expectedTokens)
    private var slots = IntArray(tableSize(expectedTokens)) { -1 }
    private var count = 0

    val size: Int get() = count

    /** Adds a token; false if its id or bytes are taken. */
    fun add(id: Int, token: ByteArray): Boolean {
        if (2 * (count + 1) > slots.size) rehash()
        val slot = slotOf(token, 0, token.size)
        if (contains(id) || slots[slot] != -1) return false
        if (id >= starts.size) {
            val old = starts.size
            starts = starts.copyOf(maxOf(id + 1, 2 * old)).also { it.fill(-1, old) }
            ends = ends.copyOf(starts.size)
        }
        while (used + token.size > bytes.size) bytes = bytes.copyOf(2 * bytes.size + token.size)
        token.copyInto(bytes, used)
        starts[id] = used
        used += token.size
        ends[id] = used
        slots[slot] = id
        count++
        return true
    }

    /** Returns the id of a token, or -1. */
    fun idOf(token: ByteArray): Int = slots[slotOf(token, 0, token.size)]

    fun contains(id: Int): Boolean = id in starts.indices && starts[id] >= 0

    /** Returns a token's bytes; the id must be there. */
    fun bytesOf(id: Int): ByteArray = bytes.copyOfRange(starts[id], ends[id])

    private fun rehash() {
        slots = IntArray(2 * slots.size) { -1 }
        for (id in starts.indices) {
            if (contains(id)) slots[slotOf(bytes, starts[id], ends[id])] = id
        }
    }

    private fun slotOf(source: ByteArray, start: Int, end: Int): Int {
        var hash = 17
        for (index in start until end) hash = 31 * hash + source[index]
        var slot = mixed(hash) and (slots.size - 1)
        while (slots[slot] != -1 && !isAt(slots[slot], source, start, end)) slot = (slot + 1) and (slots.size - 1)
        return slot
    }

    private fun isAt(id: Int, source: ByteArray, start: Int, end: Int): Boolean {
        if (ends[id] - starts[id] != end - start) return false
        for (index in start until end) {
            if (bytes[starts[id] + index - start] != source[index]) return false
        }
        return true
    }
}

/** What two neighbouring tokens merge into, and how early. */
internal class Merges(expectedMerges: Int) {
    private var keys = LongArray(tableSize(expectedMerges)) { EMPTY }
    private var values = LongArray(keys.size)
    private var count = 0

    /** Notes that [left] and [right] become [merged], with a rank of its own; a later one wins. */
    fun add(left: Int, right: Int, rank: Int, merged: Int) {
        if (2 * (count + 1) > keys.size) rehash()
        val slot = slotOf(pair(left, right))
        if (keys[slot] == EMPTY) count++
        keys[slot] = pair(left, right)
        values[slot] = pair(rank, merged)
    }

    /** Returns the rank in the upper and the merged token in the lower half, or -1. */
    fun find(left: Int, right: Int): Long {
        val slot = slotOf(pair(left, right))
        return if (keys[slot] == EMPTY) EMPTY else values[slot]
    }

    private fun rehash() {
        val oldKeys = keys
        val oldValues = values
        keys = LongArray(2 * oldKeys.size) { EMPTY }
        values = LongArray(keys.size)
        for (index in oldKeys.indices) {
            if (oldKeys[index] != EMPTY) {
                val slot = slotOf(oldKeys[index])
                keys[slot] = oldKeys[index]
                values[slot] = oldValues[index]
            }
        }
    }

    private fun slotOf(key: Long): Int {
        var slot = mixed((key xor (key ushr 32) * 31).toInt()) and (keys.size - 1)
        while (keys[slot] != EMPTY && keys[slot] != key) slot = (slot + 1) and (keys.size - 1)
        return slot
    }

    companion object {
        const val EMPTY = -1L

        fun pair(upper: Int, lower: Int): Long = (upper.toLong() shl 32) or lower.toLong()

        fun rank(found: Long): Int = (found ushr 32).toInt()

        fun merged(found: Long): Int = found.toInt()
    }
}

private fun tableSize(entries: Int): Int = Integer.highestOneBit(maxOf(entries, 16) * 2 - 1) * 2

/** Spreads a hash over all bits: the last step of MurmurHash3. */
private fun mixed(hash: Int): Int {
    var mixed = hash
    mixed = (mixed xor (mixed ushr 16)) * -0x7a143595
    mixed = (mixed xor (mixed ushr 13)) * -0x3d4d51cb
    return mixed xor (mixed ushr 16)
}
