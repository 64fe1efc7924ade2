package foggen.bundle

import com.google.gson.JsonPrimitive
import foggen.BundleException
import foggen.json.Fields
import foggen.json.JsonException
import foggen.json.jsonOf
import foggen.json.parseJson
import java.io.IOException
import java.nio.file.Files
import java.nio.file.NoSuchFileException
import java.nio.file.Path

const val MANIFEST_FILE = "foggen.json"
const val TOKENIZER_FILE = "tokenizer.json"
const val DEVICE_PROFILE_FILE = "device.json"
const val FORMAT_VERSION = 1
internal const val GRAPH_SUFFIX = ".onnx"
private const val CACHE_DTYPE = "float32"
private const val MAX_MANIFEST_BYTES = 8 shl 20

// Far above any model for a device; they keep a wrong number from asking for all memory.
private const val MAX_SIZE = 4096
private const val MAX_TOKENS = 1 shl 24
private const val MAX_CACHE_BYTES = 1L shl 26 // of one token's keys and values
private const val MAX_FILE_BYTES = 1L shl 50

private val LEVEL = Regex("""[0-9]{1,9}(\.[0-9]{1,9})?""")
private val VERSION = Regex("""[0-9]{1,9}(\.[0-9]{1,9}){0,3}""")
private val SHA256 = Regex("[0-9a-f]{64}")

// What some file systems refuse; onnxruntime gives names with `*` a meaning of its own.
private const val NOT_IN_NAMES = "\\:*?\"<>|"

/**
 * Reads `foggen.json` from a bundle's directory.
 *
 * @throws BundleException no manifest there, not valid JSON, a newer format, or a field is wrong
 */
fun readManifest(directory: Path): Manifest {
    val path = directory.resolve(MANIFEST_FILE)
    return try {
        if (!liesInside(path, directory)) throw BundleException("$path: must lie inside the bundle, is a link out of it")
        if (!Files.isRegularFile(path) || Files.size(path) > MAX_MANIFEST_BYTES) {
            throw BundleException("$path: must be a regular file of at most $MAX_MANIFEST_BYTES bytes, is not")
        }
        Files.newBufferedReader(path).use { manifestOf(Fields(parseJson(it), path.toString()), path) }
    } catch (error: NoSuchFileException) {
        throw BundleException("$directory: is no bundle, it has no $MANIFEST_FILE", error)
    } catch (error: IOException) {
        throw BundleException("$path: cannot be read: ${error.message}", error)
    } catch (error: JsonException) {
        throw BundleException(error.message ?: "$path: cannot be read", error)
    }
}

private fun manifestOf(fields: Fields, path: Path): Manifest {
    val version = fields.int("format_version")
    if (version > FORMAT_VERSION) {
        throw BundleException(
            "$path: format_version: this library reads up to $FORMAT_VERSION, is $version; upgrade foggen",
        )
    }
    rule(version == FORMAT_VERSION) { "$path: format_version: this library reads $FORMAT_VERSION, is $version" }
    val model = fields.section("model", ::modelOf)
    val graph = fields.section("graph", ::graphOf)
    val recipe = fields.section("quantization", ::recipeOf)
    val prompt = fields.section("prompt", ::promptOf)
    val template = fields.section("template", ::templateOf)
    val snapshot = fields.optionalSection("prefix_snapshot") {
        SnapshotInfo(it.string("file"), it.string("dtype"), it.string("key"))
    }
    rule(snapshot == null || snapshot.dtype == CACHE_DTYPE) { "prefix_snapshot.dtype: must be $CACHE_DTYPE, is ${snapshot?.dtype}" }
    rule(snapshot == null || snapshot.file.endsWith(".npy")) { "prefix_snapshot.file: must end in .npy, is '${snapshot?.file}'" }
    val routing = fields.section("routing", ::routingOf)
    val files = fields.sections("files", ::fileOf)
    files.keys.forEach { checkFileName(it, path) }
    for (name in listOfNotNull(graph.file, snapshot?.file, TOKENIZER_FILE) + graph.otherFiles) {
        rule(name in files) { "$path: files: must list '$name'" }
    }
    checkIds(model, graph, prompt, template)
    val constant = prompt.prefixIds.size + prompt.suffixIds.size
    rule(constant < model.contextLength) {
        "model.context_length: must be above the prompt's $constant constant tokens, is ${model.contextLength}"
    }
    rule(graph.logitsTail <= model.contextLength) {
        "graph.logits_tail: must be at most model.context_length ${model.contextLength}, is ${graph.logitsTail}"
    }
    val weights = fields.anything("provenance").get("weights_sha256")
    val sha256 = if (weights is JsonPrimitive && weights.isString) weights.asString else ""
    val normalized = fields.finish()
    return Manifest(model, graph, recipe, prompt, template, snapshot, routing, files, sha256, normalized)
}

private fun modelOf(fields: Fields): ModelInfo {
    fun positive(name: String, most: Int = MAX_SIZE): Int =
        fields.int(name).also { rule(it in 1..most) { "model.$name: must be within [1, $most], is $it" } }
    val model = ModelInfo(
        name = fields.string("name"),
        revision = fields.optionalString("revision"),
        architecture = fields.string("architecture"),
        layers = positive("num_hidden_layers"),
        attentionHeads = positive("num_attention_heads"),
        keyValueHeads = positive("num_key_value_heads"),
        headDim = positive("head_dim"),
        vocabSize = positive("vocab_size", MAX_TOKENS),
        contextLength = positive("context_length", MAX_TOKENS),
        eosTokenIds = fields.ints("eos_token_ids"),
    )
    val size = 8L * model.layers * model.keyValueHeads * model.headDim
    rule(size <= MAX_CACHE_BYTES) {
        "model.num_hidden_layers, num_key_value_heads and head_dim: must give a KV cache of at most " +
            "$MAX_CACHE_BYTES bytes for a token, give $size"
    }
    return model
}

private fun fileOf(fields: Fields): FileInfo {
    val info = FileInfo(fields.long("bytes"), fields.string("sha256"))
    rule(info.bytes in 0..MAX_FILE_BYTES) { "files: bytes must be within [0, $MAX_FILE_BYTES], one is ${info.bytes}" }
    rule(SHA256.matches(info.sha256)) { "files: sha256 must be 64 digits of 0-9 and a-f, one is '${info.sha256}'" }
    return info
}

private fun checkIds(model: ModelInfo, graph: GraphInfo, prompt: PromptInfo, template: TemplateInfo) {
    val lists = mapOf(
        "model.eos_token_ids" to model.eosTokenIds,
        "graph.head.token_ids" to (graph.head?.tokenIds ?: IntArray(0)),
        "prompt.prefix_ids" to prompt.prefixIds,
        "prompt.suffix_ids" to prompt.suffixIds,
        "template.separator_ids" to template.separatorIds,
        "template.answer_prefix_ids" to template.answerPrefixIds,
    ) + template.levelIds.mapIndexed { index, ids -> "template.level_ids[$index]" to ids }
    for ((name, ids) in lists) {
        val wrong = ids.firstOrNull { it !in 0 until model.vocabSize } ?: continue
        throw JsonException("$name: ids must be within [0, ${model.vocabSize}), which is model.vocab_size; one is $wrong")
    }
}

private fun graphOf(fields: Fields): GraphInfo {
    val cache = fields.section("kv_cache", jsonOf("dtype" to CACHE_DTYPE)) {
        val scales = it.optionalString("scales")
        rule(scales == null) { "graph.kv_cache.scales: must be null, is '$scales'" }
        it.string("dtype")
    }
    rule(cache == CACHE_DTYPE) { "graph.kv_cache.dtype: this library has $CACHE_DTYPE, is $cache" }
    val head = fields.optionalSection("head", ::headOf)
    val others = listOfNotNull(fields.optionalString("loop_file"), fields.optionalString("genai_file"))
    val tail = fields.int("logits_tail")
    rule(tail >= 1) { "graph.logits_tail: must be at least 1, is $tail" }
    val file = fields.string("file")
    for (name in others + file) rule(name.endsWith(GRAPH_SUFFIX)) { "graph: its files must end in $GRAPH_SUFFIX, one is '$name'" }
    val onnxruntime = fields.string("onnxruntime")
    rule(VERSION.matches(onnxruntime)) { "graph.onnxruntime: must be a version such as 1.27, is '$onnxruntime'" }
    return GraphInfo(
        file,
        tail,
        onnxruntime,
        head,
        sharedCache = fields.boolean("shared_cache", default = true),
        positionIds = fields.boolean("position_ids", default = false),
        otherFiles = others,
    )
}

private fun headOf(fields: Fields): HeadInfo {
    val kind = fields.string("kind")
    rule(kind == "choices") { "graph.head.kind: this library has choices, is $kind" }
    val tokens = fields.ints("token_ids")
    rule(tokens.toList() == tokens.toSortedSet().toList()) { "graph.head.token_ids: must be in ascending order, each once" }
    val answers = fields.ints("answer_ids")
    rule(answers.isNotEmpty() && answers.all { it in tokens }) { "graph.head.answer_ids: must be some of token_ids" }
    return HeadInfo(tokens, answers)
}

private fun recipeOf(fields: Fields): String {
    fields.sections("groups") {
        it.int("bits")
        it.optionalInt("block_size")
        it.optionalBoolean("symmetric")
        it.optionalInt("accuracy_level")
        it.optionalInt("activation_bits")
    }
    fields.optionalString("folding")
    fields.optionalString("calibration_sha256")
    return fields.string("recipe")
}

private fun promptOf(fields: Fields): PromptInfo {
    fields.string("system")
    return PromptInfo(
        fields.ints("prefix_ids"),
        fields.string("question_prefix"),
        fields.string("question_suffix"),
        fields.ints("suffix_ids"),
        fields.boolean("strip_question", default = false),
    )
}

private fun templateOf(fields: Fields): TemplateInfo {
    val levels = fields.strings("levels")
    val levelIds = fields.intLists("level_ids")
    rule(levels.isNotEmpty() && levels.size == levelIds.size) {
        "template.level_ids: must hold one id list for each of the ${levels.size} levels, holds ${levelIds.size}"
    }
    checkLevels(levels)
    val minimum = fields.double("min_template_probability")
    rule(minimum in 0.0..1.0) { "template.min_template_probability: must be within [0, 1], is $minimum" }
    val separatorIds = fields.ints("separator_ids")
    checkPaths(levelIds, separatorIds)
    return TemplateInfo(
        levels,
        levelIds,
        separatorIds,
        fields.string("answer_prefix"),
        fields.ints("answer_prefix_ids"),
        minimum,
    )
}

private fun routingOf(fields: Fields): RoutingInfo {
    val tau = fields.double("tau")
    rule(tau in 0.0..1.0) { "routing.tau: must be within [0, 1], is $tau" }
    val on = fields.optionalSection("calibration") { calibratedOn(it, tau) }
    return RoutingInfo(tau, calibrated = on != null, on ?: ConfidenceKind.VERBALIZED)
}

/** Reads which confidence a calibration compared; its other fields tell how it was made. */
private fun calibratedOn(fields: Fields, tau: Double): ConfidenceKind {
    for (name in listOf("method", "target", "data_sha256", "date")) fields.string(name)
    for (name in listOf("limit", "observed")) fields.double(name)
    for (name in listOf("bound", "certainty")) fields.optionalDouble(name)
    fields.int("questions")
    fields.optionalDoubles("level_shares")
    val chosen = fields.double("tau")
    rule(chosen == tau) { "routing.calibration.tau: must be the tau it chose, $tau, is $chosen" }
    val on = fields.string("on")
    return ConfidenceKind.values().firstOrNull { it.word == on }
        ?: throw JsonException("routing.calibration.on: this library has verbalized and expected, is $on")
}

private fun checkLevels(levels: List<String>) {
    for (level in levels) {
        rule(LEVEL.matches(level) && level.toDouble() in 0.0..1.0) { "template.levels: must be numbers within [0, 1], one is '$level'" }
    }
    val values = levels.map { it.toDouble() }
    rule(values == values.toSortedSet().toList()) { "template.levels: must be in ascending order, are ${levels.joinToString(", ")}" }
}

/** Refuses level ids that no walk tells apart, or that end with their first token. */
private fun checkPaths(levelIds: List<IntArray>, separatorIds: IntArray) {
    rule(separatorIds.isNotEmpty()) { "template.separator_ids: must hold at least one id, which ends a level" }
    val paths = levelIds.map { it.toList() + separatorIds.toList() }
    for ((ids, path) in levelIds zip paths) {
        rule(ids.isNotEmpty() && paths.count { it.take(path.size) == path } == 1) {
            "template.level_ids: must hold ids, and no level may begin with another; ${ids.toList()} breaks that"
        }
    }
}

/** Holds a name to what every system writes inside a bundle, and nowhere else. */
private fun checkFileName(name: String, manifest: Path) {
    rule(name.split('/').all { it.isNotEmpty() && !it.startsWith(".") }) {
        "$manifest: files: names must stay inside the bundle, and no part may be empty or begin with a full stop; one is '$name'"
    }
    rule(name.none { it in NOT_IN_NAMES || it.isISOControl() || !isSeen(it) }) {
        "$manifest: files: names must hold none of $NOT_IN_NAMES and no control characters"
    }
    rule(name.lowercase() !in setOf(MANIFEST_FILE, DEVICE_PROFILE_FILE)) {
        "$manifest: files: must not list $name, which is beside what is hashed"
    }
}

private fun isSeen(char: Char): Boolean = char.category !in setOf(CharCategory.FORMAT, CharCategory.LINE_SEPARATOR, CharCategory.PARAGRAPH_SEPARATOR)

private inline fun rule(holds: Boolean, message: () -> String) {
    if (!holds) throw JsonException(message())
}
