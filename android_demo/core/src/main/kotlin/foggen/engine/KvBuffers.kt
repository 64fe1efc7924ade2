package foggen.engine

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import foggen.bundle.ModelInfo
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** A buffer for the keys of each layer, and one for the values. */
internal class KvBuffers(private val model: ModelInfo, allocator: BufferAllocator, val capacity: Int) {
    /** By the graph's names of them, e.g. `0.key`; each has room for [capacity] tokens of every head. */
    val byName: Map<String, FloatBuffer> = (0 until model.layers).flatMap { layer ->
        PARTS.map { part ->
            val bytes = allocator.allocate(model.keyValueHeads * capacity * model.headDim * Float.SIZE_BYTES)
            "$layer.$part" to bytes.order(ByteOrder.nativeOrder()).asFloatBuffer()
        }
    }.toMap()

    /** Wraps the beginning of each buffer: (1, key/value heads, tokens, head size). */
    fun tensors(environment: OrtEnvironment, prefix: String, tokens: Int): Map<String, OnnxTensor> {
        val shape = longArrayOf(1, model.keyValueHeads.toLong(), tokens.toLong(), model.headDim.toLong())
        return byName.entries.associate { (name, buffer) ->
            val part = buffer.duplicate().apply { limit(model.keyValueHeads * tokens * model.headDim) }
            "$prefix.$name" to OnnxTensor.createTensor(environment, part, shape)
        }
    }

    /** Copies the first tokens of every head; heads lie so many tokens apart here and there. */
    fun copyTo(target: KvBuffers, tokens: Int, stride: Int, targetStride: Int) {
        for ((name, buffer) in byName) copyHeads(buffer, 0, stride, target.byName.getValue(name), targetStride, tokens)
    }

    /** Takes a snapshot of so many tokens: (layers, key and value, heads, tokens, head size). */
    fun fill(snapshot: FloatBuffer, tokens: Int, stride: Int) {
        byName.values.forEachIndexed { place, buffer ->
            copyHeads(snapshot, place * model.keyValueHeads * tokens * model.headDim, tokens, buffer, stride, tokens)
        }
    }

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

    companion object {
        private val PARTS = listOf("key", "value")

        // A short question takes little memory; speed does not depend on the capacity.
        private const val STEP = 128

        /** Returns the capacity in which so many tokens have room. */
        fun capacityFor(tokens: Int): Int = maxOf(STEP, (tokens + STEP - 1) / STEP * STEP)
    }
}
