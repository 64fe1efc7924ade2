package foggen

import foggen.bundle.Bundle
import foggen.bundle.GraphInfo
import foggen.bundle.HeadInfo
import foggen.bundle.ModelInfo
import foggen.bundle.TOKENIZER_FILE
import foggen.bundle.mapSnapshot
import foggen.decoding.ConstrainedDecoder
import foggen.decoding.Decoder
import foggen.decoding.DecodingContext
import foggen.decoding.GreedyDecoder
import foggen.decoding.StepDecoder
import foggen.decoding.TemplateTrie
import foggen.engine.EngineOptions
import foggen.engine.OrtEngine
import foggen.engine.TokenEngine
import foggen.tokenizer.QuestionTokenizer
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.withContext
import java.nio.FloatBuffer
import java.nio.file.Path

/** Makes the engine of a bundle's graph; tests give their own. */
fun interface EngineFactory {
    fun open(path: Path, model: ModelInfo, graph: GraphInfo): LoadedEngine
}

/** An engine, and how to put a snapshot into its cache. */
class LoadedEngine(val engine: TokenEngine, val restore: (snapshot: FloatBuffer, tokens: Int) -> Unit)

/** onnxruntime, with these options. */
class OrtEngineFactory(private val options: EngineOptions = EngineOptions()) : EngineFactory {
    override fun open(path: Path, model: ModelInfo, graph: GraphInfo): LoadedEngine {
        val engine = OrtEngine.open(path, model, graph, options)
        return LoadedEngine(engine, engine::restore)
    }
}

/**
 * How to open a bundle.
 *
 * @property engine makes the engine
 * @property verify hash every file, whether or not it was verified before
 * @property notes a directory outside of every bundle that nobody else writes to, for notes that files
 *   were verified; null for none, which hashes every file at each opening
 * @property recomputePrefix compute the prompt prefix's KV cache with the bundle's own graph
 * @property dispatcher where the heavy work is done
 * @property progress told how many bytes of the bundle are hashed
 */
class OpenOptions(
    val engine: EngineFactory = OrtEngineFactory(),
    val verify: Boolean = false,
    val notes: Path? = null,
    val recomputePrefix: Boolean = false,
    val dispatcher: CoroutineDispatcher = Dispatchers.Default,
    val progress: (Long) -> Unit = {},
)

/**
 * An engine whose cache holds the prompt's constant prefix whenever no question is asked.
 *
 * @property prefixSource where the cached prefix came from: `snapshot`, `recomputed` or `none`
 */
class LocalModel private constructor(
    val bundle: Bundle,
    val tokenizer: QuestionTokenizer,
    val engine: TokenEngine,
    val prefixSource: String,
    private val restore: () -> Unit,
) : AutoCloseable {
    private val template = bundle.manifest.template
    private val trie = TemplateTrie.of(template)
    private val context = DecodingContext(
        engine,
        trie,
        template.answerPrefixIds.toList(),
        bundle.manifest.model.eosTokenIds.toSet(),
    )

    /** Tokens of the prompt that every question finds in the cache. */
    val prefixLength: Int = engine.length

    /** The most tokens a prompt may have and leave room for the template and one token. */
    val room: Int = engine.contextLength - trie.paths.maxOf { it.size } - template.answerPrefixIds.size - 1

    /** Returns the token ids of the whole prompt. */
    fun promptIds(question: String): IntArray = tokenizer.promptIds(bundle.manifest.prompt, question)

    /** Returns a decoder for one question, the cache rolled back to the prefix. */
    fun decoder(options: AskOptions): Decoder {
        engine.truncate(prefixLength)
        bundle.manifest.graph.head?.let { return choiceDecoder(it, options) }
        return when (options.mode) {
            DecodingMode.STEP -> StepDecoder(context)
            DecodingMode.GREEDY -> GreedyDecoder(context)
            DecodingMode.CONSTRAINED -> ConstrainedDecoder(context, options.choices?.let { firstIds(it) })
        }
    }

    /** Puts the prompt's constant prefix into an engine that was used for something else. */
    fun restorePrefix() {
        engine.truncate(0)
        restore()
    }

    override fun close() = engine.close()

    private fun choiceDecoder(head: HeadInfo, options: AskOptions): Decoder {
        if (options.mode != DecodingMode.CONSTRAINED) {
            throw ConfigException("mode: must be constrained with a bundle whose output head is of choices, is ${options.mode}")
        }
        val first = options.choices?.let { firstIds(it, head.answerIds) } ?: head.answerIds.toList()
        return ConstrainedDecoder(context, first, head.columns)
    }

    /** Returns the tokens that the choices may be written with after the answer prefix, of those there are. */
    private fun firstIds(choices: List<String>, among: IntArray? = null): List<Int> = choices.flatMap { choice ->
        val ids = letterIds(choice).filter { among == null || it in among }
        if (ids.isEmpty()) {
            val rule = if (among == null) "of one token each" else "that the bundle's output head has"
            throw ConfigException("choices: must be letters $rule, are $choices; $choice is none")
        }
        ids
    }

    /** Returns the tokens that write a letter, bare or after a space, right after the answer prefix. */
    private fun letterIds(letter: String): Set<Int> {
        val prefix = template.answerPrefixIds.toList()
        val before = tokenizer.decode(template.separatorIds + template.answerPrefixIds)
        val found = HashSet<Int>()
        for (lead in listOf("", " ")) {
            val ids = tokenizer.encode(before + lead + letter).toList()
            if (ids.dropLast(1).takeLast(prefix.size) == prefix) found += ids.last()
        }
        // In `:C` both may be one token, but once the colon is written only the letter can follow.
        tokenizer.encode(letter).singleOrNull()?.let { found += it }
        return found
    }

    companion object {
        /**
         * Checks a bundle, then loads the graph and the tokenizer side by side, and the prefix.
         *
         * @throws BundleException it is no bundle, altered, or onnxruntime refuses it
         */
        suspend fun open(directory: Path, options: OpenOptions = OpenOptions()): LocalModel =
            withContext(options.dispatcher) {
                val bundle = Bundle.open(directory, options.verify, options.notes, options.progress)
                val manifest = bundle.manifest
                val loading = async {
                    options.engine.open(bundle.path(manifest.graph.file), manifest.model, manifest.graph)
                }
                val tokenizer = QuestionTokenizer.read(bundle.path(TOKENIZER_FILE))
                val loaded = loading.await()
                try {
                    val source = cachePrefix(bundle, loaded, options.recomputePrefix)
                    val restore = { cachePrefix(bundle, loaded, options.recomputePrefix); Unit }
                    LocalModel(bundle, tokenizer, loaded.engine, source, restore)
                } catch (error: FoggenException) {
                    loaded.engine.close()
                    throw error
                }
            }

        private fun cachePrefix(bundle: Bundle, loaded: LoadedEngine, recompute: Boolean): String {
            val prefix = bundle.manifest.prompt.prefixIds
            val snapshot = bundle.manifest.snapshot
            return when {
                recompute -> "recomputed".also { if (prefix.isNotEmpty()) loaded.engine.forward(prefix) }
                snapshot != null -> "snapshot".also { loaded.restore(mapSnapshot(bundle, snapshot), prefix.size) }
                else -> "none"
            }
        }
    }
}
