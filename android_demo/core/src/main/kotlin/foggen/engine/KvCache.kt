package foggen.engine

import foggen.bundle.ModelInfo
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

// A short question takes little memory; speed does not depend on the capacity.
private const val CAPACITY_STEP = 128

/**
 * Gives memory to the KV cache and the logits.
 *
 * On Android direct buffers count towards the heap's limit: an application may map shared memory.
 */
fun interface BufferAllocator {
    /** Returns a direct buffer of zeros. */
    fun allocate(bytes: Int): ByteBuffer

    companion object {
        val DIRECT = BufferAllocator { ByteBuffer.allocateDirect(it) }
    }
}

/**
 * Keys and values of [length] tokens in buffers of [capacity] tokens, outside the heap.
 *
 * @property keys one per layer, (1, key/value heads, capacity, head size), float32
 * @property values the same for the values
 */
internal class KvCache(private val model: ModelInfo, private val allocator: BufferAllocator) {
    var length = 0
        private set
    var capacity = 0
        private set
    var keys: List<FloatBuffer> = emptyList()
        private set
    var values: List<FloatBuffer> = emptyList()
        private set

    init {
        resize(CAPACITY_STEP)
    }

    /** Makes room for so many tokens; where [capacity] changes, the buffers move. */
    fun reserve(tokens: Int) {
        if (tokens > capacity) resize((tokens + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP)
    }

    /** Counts tokens that the graph has appended. */
    fun append(tokens: Int) {
        length += tokens
    }

    fun truncate(tokens: Int) {
        require(tokens in 0..length) { "length: must be within [0, $length], is $tokens" }
        length = tokens
    }

    /** Holds exactly a snapshot: (layers, key and value, heads, tokens, head size). */
    fun restore(snapshot: FloatBuffer, tokens: Int) {
        reserve(tokens)
        for (layer in 0 until model.layers) {
            for ((part, buffers) in listOf(keys, values).withIndex()) {
                val first = (2 * layer + part) * model.keyValueHeads * tokens * model.headDim
                copyHeads(snapshot, first, tokens, buffers[layer], capacity, tokens)
            }
        }
        length = tokens
    }

    private fun resize(tokens: Int) {
        val old = capacity
        keys = List(model.layers) { resized(keys.getOrNull(it), old, tokens) }
        values = List(model.layers) { resized(values.getOrNull(it), old, tokens) }
        capacity = tokens
    }

    private fun resized(held: FloatBuffer?, from: Int, to: Int): FloatBuffer {
        val bytes = allocator.allocate(model.keyValueHeads * to * model.headDim * Float.SIZE_BYTES)
        val buffer = bytes.order(ByteOrder.nativeOrder()).asFloatBuffer()
        if (held != null) copyHeads(held, 0, from, buffer, to, length)
        return buffer
    }

    /** Copies the first tokens of every head between buffers of other strides. */
    private fun copyHeads(from: FloatBuffer, first: Int, fromStride: Int, to: FloatBuffer, toStride: Int, tokens: Int) {
        for (head in 0 until model.keyValueHeads) {
            val source = from.duplicate()
            val start = first + head * fromStride * model.headDim
            source.position(start)
            source.limit(start + tokens * model.headDim)
            val target = to.duplicate()
            target.position(head * toStride * model.headDim)
            target.put(source)
        }
    }
}
