package foggen.engine

import ai.onnxruntime.OnnxTensor
import foggen.bundle.ModelInfo
import java.nio.FloatBuffer

/** Each buffer is past and present at once: attention appends in place. */
internal class SharedCache(private val model: ModelInfo, private val allocator: BufferAllocator) : KvCache {
    private val environment = Onnxruntime.environment
    private var bound: KvBuffers? = null
    var buffers = KvBuffers(model, allocator, KvBuffers.capacityFor(0))
        private set
    override var length = 0
        private set
    override var past: Map<String, OnnxTensor> = emptyMap()
        private set
    override var present: Map<String, OnnxTensor> = emptyMap()
        private set

    override fun reserve(tokens: Int) {
        if (tokens <= buffers.capacity) return
        val roomier = KvBuffers(model, allocator, KvBuffers.capacityFor(tokens))
        buffers.copyTo(roomier, length, buffers.capacity, roomier.capacity)
        buffers = roomier
    }

    /** Wraps each buffer once. */
    override fun bind(tokens: Int) {
        if (bound === buffers) return
        close()
        past = buffers.tensors(environment, "past_key_values", buffers.capacity)
        present = past.mapKeys { (name, _) -> name.replace("past_key_values", "present") }
        bound = buffers
    }

    override fun append(tokens: Int) {
        length += tokens
    }

    override fun truncate(tokens: Int) {
        requireHeld(tokens, length)
        length = tokens
    }

    override fun restore(snapshot: FloatBuffer, tokens: Int) {
        reserve(tokens)
        buffers.fill(snapshot, tokens, buffers.capacity)
        length = tokens
    }

    override fun close() = past.values.forEach { it.close() }
}
