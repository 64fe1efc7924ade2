package foggen.bundle

import com.google.gson.JsonObject
import foggen.json.compactJson

/** Where the weights come from, and the shape the KV cache is allocated by. */
class ModelInfo(
    val name: String,
    val revision: String?,
    val architecture: String,
    val layers: Int,
    val attentionHeads: Int,
    val keyValueHeads: Int,
    val headDim: Int,
    val vocabSize: Int,
    val contextLength: Int,
    val eosTokenIds: IntArray,
)

/**
 * An output head of some tokens only, for constrained decoding of multiple-choice answers.
 *
 * @property tokenIds the token of each column of the logits, ascending
 * @property answerIds the letters among them, of which the answer is one
 */
class HeadInfo(val tokenIds: IntArray, val answerIds: IntArray) {
    /** The column of each token. */
    val columns: Map<Int, Int> = tokenIds.indices.associateBy { tokenIds[it] }
}

/**
 * The ONNX graph.
 *
 * @property logitsTail how many last positions of a chunk get logits
 * @property onnxruntime the least version that runs it
 * @property otherFiles other graphs over the same weights, for other runtimes
 * @property head null where every token of the vocabulary has logits
 * @property sharedCache whether past and present may be one buffer that the graph appends to
 * @property positionIds whether the tokens' positions are an input too
 */
class GraphInfo(
    val file: String,
    val logitsTail: Int,
    val onnxruntime: String,
    val head: HeadInfo?,
    val sharedCache: Boolean = true,
    val positionIds: Boolean = false,
    val otherFiles: List<String> = emptyList(),
)

/**
 * The chat template, taken apart around the question.
 *
 * The prompt is [prefixIds], then [questionPrefix], question and [questionSuffix] encoded as plain
 * text, then [suffixIds].
 */
class PromptInfo(
    val prefixIds: IntArray,
    val questionPrefix: String,
    val questionSuffix: String,
    val suffixIds: IntArray,
    val stripQuestion: Boolean,
)

/** What the model writes: a confidence level, a separator, then its answer. */
class TemplateInfo(
    val levels: List<String>,
    val levelIds: List<IntArray>,
    val separatorIds: IntArray,
    val answerPrefix: String,
    val answerPrefixIds: IntArray,
    val minTemplateProbability: Double,
) {
    /** The confidence levels as numbers. */
    val levelValues: DoubleArray = DoubleArray(levels.size) { levels[it].toDouble() }
}

/** The KV cache of the prompt's prefix; [key] says for which weights, tokenizer and prompt. */
class SnapshotInfo(val file: String, val dtype: String, val key: String)

/** Which confidence tau is compared with. */
enum class ConfidenceKind(val word: String) { VERBALIZED("verbalized"), EXPECTED("expected") }

/** The default tau, and whether a calibration chose it. */
class RoutingInfo(val tau: Double, val calibrated: Boolean, val on: ConfidenceKind)

/** Size and SHA-256 of one file. */
class FileInfo(val bytes: Long, val sha256: String)

/**
 * The whole of `foggen.json` that this library uses.
 *
 * @property recipe the quantization's name
 * @property weightsSha256 hash of the weights as folded, empty where the export did not say
 */
class Manifest(
    val model: ModelInfo,
    val graph: GraphInfo,
    val recipe: String,
    val prompt: PromptInfo,
    val template: TemplateInfo,
    val snapshot: SnapshotInfo?,
    val routing: RoutingInfo,
    val files: Map<String, FileInfo>,
    val weightsSha256: String,
    normalized: JsonObject,
) {
    /** Hash of the bundle: of everything in the manifest, file hashes too, but `routing`. */
    val sha256: String = run {
        val covered = normalized.deepCopy()
        covered.remove("routing")
        sha256(compactJson(covered, sorted = true).toByteArray())
    }
}
