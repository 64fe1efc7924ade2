package foggen.engine

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import foggen.BundleException
import foggen.ConfigException
import foggen.EngineException
import foggen.bundle.GraphInfo
import foggen.bundle.ModelInfo
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.nio.file.Path

/** The version of onnxruntime that this library was tested with. */
const val ONNXRUNTIME_VERSION = "1.29.0"

// Long prompts go through in chunks, or attention's scratch memory would grow with their square.
// Even chunk lengths keep int4 products bit-identical to those of one long chunk.
private const val CHUNK_TOKENS = 512

/**
 * How onnxruntime uses the device.
 *
 * @property threads worker threads; null takes the physical big cores
 * @property spinning whether idle workers spin, trading battery for latency
 * @property arena whether onnxruntime keeps freed memory for the next pass
 * @property kleidiai whether ARM's KleidiAI kernels may be used; without them ARM computes what x86 does
 * @property onnxruntime the only version to run with; null for any that the bundle allows
 * @property allocator where the KV cache lies
 */
class EngineOptions(
    val threads: Int? = null,
    val spinning: Boolean = true,
    val arena: Boolean = true,
    val kleidiai: Boolean = true,
    val onnxruntime: String? = ONNXRUNTIME_VERSION,
    val allocator: BufferAllocator = BufferAllocator.DIRECT,
) {
    init {
        if (threads != null && threads < 1) throw ConfigException("threads: must be at least 1, is $threads")
    }
}

/** The only class that talks to onnxruntime: a bundle's graph in a session. */
internal class OrtEngine private constructor(
    private val session: OrtSession,
    private val model: ModelInfo,
    override val logitsTail: Int,
    vocabSize: Int,
    allocator: BufferAllocator,
) : TokenEngine {
    private val environment = OrtEnvironment.getEnvironment()
    private val cache = KvCache(model, allocator)
    private val scores = LogitsBuffer(allocator, logitsTail, vocabSize)
    private var mask: LongBuffer = longs(0)
    private var past: Map<String, OnnxTensor> = emptyMap()
    private var present: Map<String, OnnxTensor> = emptyMap()
    private var boundCapacity = 0

    override val length: Int get() = cache.length
    override val contextLength: Int get() = model.contextLength
    override var forwardPasses = 0
        private set

    override fun truncate(length: Int) = cache.truncate(length)

    /** Holds exactly a snapshot of so many tokens. */
    fun restore(snapshot: FloatBuffer, tokens: Int) = cache.restore(snapshot, tokens)

    override fun forward(ids: IntArray): Logits {
        val total = cache.length + ids.size
        require(ids.isNotEmpty() && total <= contextLength) {
            "ids: with ${cache.length} in the cache must number 1 to ${contextLength - cache.length}, are ${ids.size}"
        }
        cache.reserve(total)
        if (boundCapacity != cache.capacity) bindCache()
        var start = 0
        while (ids.size - start > 2 * CHUNK_TOKENS) {
            run(ids, start, start + CHUNK_TOKENS)
            start += CHUNK_TOKENS
        }
        return run(ids, start, ids.size)
    }

    override fun close() {
        past.values.forEach { it.close() }
        scores.close()
        session.close()
    }

    private fun run(ids: IntArray, start: Int, end: Int): Logits {
        val count = end - start
        val total = cache.length + count
        try {
            val fed = OnnxTensor.createTensor(environment, longs(count) { ids[start + it].toLong() }, longArrayOf(1, count.toLong()))
            val seen = OnnxTensor.createTensor(environment, firstOf(mask, total), longArrayOf(1, total.toLong()))
            fed.use {
                seen.use {
                    val inputs = past + mapOf("input_ids" to fed, "attention_mask" to seen)
                    val outputs = present + mapOf("logits" to scores.tensor(environment, minOf(count, logitsTail)))
                    session.run(inputs, emptySet(), outputs).close()
                }
            }
        } catch (error: OrtException) {
            throw EngineException("onnxruntime failed on $count tokens: ${error.message}", error)
        }
        forwardPasses++
        cache.append(count)
        return scores.rows(minOf(count, logitsTail))
    }

    /** Wraps each buffer once, as past and as present: attention appends in place. */
    private fun bindCache() {
        past.values.forEach { it.close() }
        val shape = longArrayOf(1, model.keyValueHeads.toLong(), cache.capacity.toLong(), model.headDim.toLong())
        val parts = mapOf("key" to cache.keys, "value" to cache.values)
        val tensors = parts.flatMap { (part, buffers) ->
            buffers.mapIndexed { layer, buffer -> "$layer.$part" to OnnxTensor.createTensor(environment, buffer, shape) }
        }
        past = tensors.associate { (name, tensor) -> "past_key_values.$name" to tensor }
        present = tensors.associate { (name, tensor) -> "present.$name" to tensor }
        mask = longs(cache.capacity) { 1 }
        boundCapacity = cache.capacity
    }

    companion object {
        /**
         * Loads a graph from its path: neither it nor its weights ever lie on the heap.
         *
         * @throws BundleException onnxruntime is of another version, or refuses the file
         */
        fun open(path: Path, model: ModelInfo, graph: GraphInfo, options: EngineOptions): OrtEngine {
            val environment = OrtEnvironment.getEnvironment()
            checkVersion(environment.version, graph.onnxruntime, options.onnxruntime)
            return try {
                sessionOptions(options).use { settings ->
                    val session = environment.createSession(path.toString(), settings)
                    val columns = graph.head?.tokenIds?.size ?: model.vocabSize
                    OrtEngine(session, model, graph.logitsTail, columns, options.allocator)
                }
            } catch (error: OrtException) {
                throw BundleException("$path: onnxruntime ${environment.version} refuses it: ${error.message}", error)
            }
        }
    }
}

/** Refuses an onnxruntime that the bundle or this library was not made for. */
internal fun checkVersion(found: String, minimum: String, expected: String?) {
    if (expected != null && found != expected) {
        throw BundleException("onnxruntime: must be $expected, is $found; allow others by EngineOptions.onnxruntime")
    }
    val pairs = minimum.split('.').zip(found.split('.')) { least, has -> (has.toIntOrNull() ?: 0) - (least.toIntOrNull() ?: 0) }
    if ((pairs.firstOrNull { it != 0 } ?: 0) < 0) {
        throw BundleException("onnxruntime: this bundle needs at least $minimum, is $found")
    }
}

private fun sessionOptions(options: EngineOptions): OrtSession.SessionOptions {
    val settings = OrtSession.SessionOptions()
    settings.setIntraOpNumThreads(options.threads ?: bigCores())
    settings.setInterOpNumThreads(1)
    settings.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
    settings.setCPUArenaAllocator(options.arena)
    settings.addConfigEntry("session.intra_op.allow_spinning", if (options.spinning) "1" else "0")
    settings.addConfigEntry("mlas.disable_kleidiai", if (options.kleidiai) "0" else "1")
    return settings
}

/** Logits outside the heap, and one row of them at a time on it. */
private class LogitsBuffer(allocator: BufferAllocator, rows: Int, private val vocabSize: Int) : AutoCloseable {
    private val buffer: FloatBuffer =
        allocator.allocate(rows * vocabSize * Float.SIZE_BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer()
    private val tensors = arrayOfNulls<OnnxTensor>(rows + 1)
    private val row = FloatArray(vocabSize)

    fun tensor(environment: OrtEnvironment, rows: Int): OnnxTensor =
        tensors[rows] ?: run {
            val part = buffer.duplicate().apply { limit(rows * vocabSize) }
            val shape = longArrayOf(1, rows.toLong(), vocabSize.toLong())
            OnnxTensor.createTensor(environment, part, shape).also { tensors[rows] = it }
        }

    fun rows(count: Int): Logits = object : Logits {
        override val rows = count

        override fun row(index: Int): FloatArray {
            val source = buffer.duplicate()
            source.position(index * vocabSize)
            source.get(row)
            return row
        }
    }

    override fun close() = tensors.forEach { it?.close() }
}

private inline fun longs(count: Int, item: (Int) -> Long = { 0 }): LongBuffer {
    val buffer = ByteBuffer.allocateDirect(count * Long.SIZE_BYTES).order(ByteOrder.nativeOrder()).asLongBuffer()
    for (index in 0 until count) buffer.put(index, item(index))
    return buffer
}

private fun firstOf(buffer: LongBuffer, count: Int): LongBuffer = buffer.duplicate().apply { limit(count) }
