package foggen.engine

import ai.onnxruntime.OnnxTensor
import java.nio.ByteBuffer
import java.nio.FloatBuffer

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

/** Keys and values of the tokens so far, outside the heap. */
internal interface KvCache : AutoCloseable {
    /** Tokens held. */
    val length: Int

    /** What a pass reads, by the graph's names of its inputs. */
    val past: Map<String, OnnxTensor>

    /** What a pass writes, by the graph's names of its outputs. */
    val present: Map<String, OnnxTensor>

    /** Makes room for so many tokens, to be appended in one or more passes. */
    fun reserve(tokens: Int)

    /** Makes [past] and [present] those of a pass that appends so many tokens. */
    fun bind(tokens: Int)

    /** Takes over what that pass wrote. */
    fun append(tokens: Int)

    /** Forgets all but the first tokens. */
    fun truncate(tokens: Int)

    /** Holds exactly a snapshot: (layers, key and value, heads, tokens, head size). */
    fun restore(snapshot: FloatBuffer, tokens: Int)
}

/** Refuses to truncate to more tokens than are held. */
internal fun requireHeld(tokens: Int, length: Int) =
    require(tokens in 0..length) { "length: must be within [0, $length], is $tokens" }
