package foggen.engine

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import foggen.BundleException
import foggen.ConfigException
import foggen.EngineException
import foggen.bundle.GraphInfo
import foggen.bundle.ModelInfo
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.file.Path

/** The version of onnxruntime that this library was tested with. */
const val ONNXRUNTIME_VERSION = "1.29.0"

// Long prompts go through in chunks, or attention's scratch memory would grow with their square.
// Even chunk lengths keep int4 products bit-identical to those of one long chunk.
private const val CHUNK_TOKENS = 512
private val PAST_KEY = Regex("""past_key_values\.[0-9]+\.key""")

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

/** A bundle's graph in a session of onnxruntime. */
internal class OrtEngine private constructor(
    private val session: OrtSession,
    private val graph: GraphInfo,
    private val cache: KvCache,
    private val scores: LogitsBuffer,
    override val contextLength: Int,
) : TokenEngine {
    private val environment = Onnxruntime.environment

    override val logitsTail = minOf(graph.logitsTail, CHUNK_TOKENS)
    override val length: Int get() = cache.length
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
        var start = 0
        while (ids.size - start > 2 * CHUNK_TOKENS) {
            run(ids, start, start + CHUNK_TOKENS)
            start += CHUNK_TOKENS
        }
        return run(ids, start, ids.size)
    }

    override fun close() {
        cache.close()
        scores.close()
        session.close()
    }

    private fun run(ids: IntArray, start: Int, end: Int): Logits {
        val count = end - start
        val past = cache.length
        val rows = minOf(count, graph.logitsTail)
        try {
            cache.bind(count)
            val fed = LinkedHashMap<String, OnnxTensor>()
            try {
                fed["input_ids"] = vector(count) { ids[start + it].toLong() }
                fed["attention_mask"] = vector(past + count) { 1 }
                if (graph.positionIds) fed["position_ids"] = vector(count) { (past + it).toLong() }
                session.run(fed + cache.past, emptySet(), cache.present + ("logits" to scores.tensor(rows))).close()
            } finally {
                fed.values.forEach { it.close() }
            }
        } catch (error: OrtException) {
            throw EngineException("onnxruntime failed on $count tokens: ${error.message}", error)
        }
        forwardPasses++
        cache.append(count)
        return scores.last(minOf(rows, logitsTail))
    }

    /** Makes a tensor of one row: (1, count), int64. */
    private fun vector(count: Int, item: (Int) -> Long): OnnxTensor {
        val numbers = ByteBuffer.allocateDirect(count * Long.SIZE_BYTES).order(ByteOrder.nativeOrder()).asLongBuffer()
        for (index in 0 until count) numbers.put(index, item(index))
        return OnnxTensor.createTensor(environment, numbers, longArrayOf(1, count.toLong()))
    }

    companion object {
        /**
         * Loads a graph from its path: neither it nor its weights ever lie on the heap.
         *
         * @throws BundleException onnxruntime is of another version, or refuses the file
         */
        fun open(path: Path, model: ModelInfo, graph: GraphInfo, options: EngineOptions): OrtEngine {
            val environment = Onnxruntime.environment
            checkVersion(environment.version, graph.onnxruntime, options.onnxruntime)
            return try {
                sessionOptions(options).use { settings ->
                    val session = environment.createSession(path.toString(), settings)
                    checkShapes(session, model)
                    val columns = graph.head?.tokenIds?.size ?: model.vocabSize
                    val cache = if (graph.sharedCache) SharedCache(model, options.allocator) else SeparateCache(model, options.allocator)
                    OrtEngine(session, graph, cache, LogitsBuffer(options.allocator, columns), model.contextLength)
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

/** Holds what buffers are made by to what the graph says of itself; open dimensions may be anything. */
private fun checkShapes(session: OrtSession, model: ModelInfo) {
    val keys = session.inputInfo.filterKeys { PAST_KEY.matches(it) }
    val shape = (keys["past_key_values.0.key"]?.info as? TensorInfo)?.shape
    val facts = listOf(
        Triple("model.num_hidden_layers", keys.size.toLong(), model.layers),
        Triple("model.num_key_value_heads", shape?.getOrNull(1) ?: -1, model.keyValueHeads),
        Triple("model.head_dim", shape?.getOrNull(3) ?: -1, model.headDim),
    )
    val (name, found, said) = facts.firstOrNull { (_, found, said) -> found >= 0 && found != said.toLong() } ?: return
    session.close()
    throw BundleException("$name: must be $found as the graph has it, is $said")
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
