package foggen.engine

import ai.onnxruntime.OnnxTensor
import foggen.bundle.ModelInfo
import java.nio.FloatBuffer

/** Past and present are buffers of their own, of exactly the tokens before and after a pass. */
internal class SeparateCache(private val model: ModelInfo, private val allocator: BufferAllocator) : KvCache {
    private val environment = Onnxruntime.environment
    private var held = KvBuffers(model, allocator, KvBuffers.capacityFor(0))
    private var spare = KvBuffers(model, allocator, KvBuffers.capacityFor(0))
    override var length = 0
        private set
    override var past: Map<String, OnnxTensor> = emptyMap()
        private set
    override var present: Map<String, OnnxTensor> = emptyMap()
        private set

    override fun reserve(tokens: Int) {
        if (tokens <= held.capacity) return
        val roomier = KvBuffers(model, allocator, KvBuffers.capacityFor(tokens))
        held.copyTo(roomier, length, length, length)
        held = roomier
        spare = KvBuffers(model, allocator, roomier.capacity)
    }

    override fun bind(tokens: Int) {
        close()
        past = held.tensors(environment, "past_key_values", length)
        present = spare.tensors(environment, "present", length + tokens)
    }

    override fun append(tokens: Int) {
        length += tokens
        swap()
    }

    override fun truncate(tokens: Int) {
        requireHeld(tokens, length)
        if (tokens == length) return
        held.copyTo(spare, tokens, length, tokens)
        length = tokens
        swap()
    }

    override fun restore(snapshot: FloatBuffer, tokens: Int) {
        reserve(tokens)
        held.fill(snapshot, tokens, tokens)
        length = tokens
    }

    override fun close() = (past.values + present.values).forEach { it.close() }

    private fun swap() {
        held = spare.also { spare = held }
    }
}
