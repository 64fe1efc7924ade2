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
import java.nio.file.Paths

const val MANIFEST_FILE = "foggen.json"
const val TOKENIZER_FILE = "tokenizer.json"
const val FORMAT_VERSION = 1

/**
 * Reads `foggen.json` from a bundle's directory.
 *
 * @throws BundleException no manifest there, not valid JSON, a newer format, or a field is wrong
 */
fun readManifest(directory: Path): Manifest {
    val path = directory.resolve(MANIFEST_FILE)
    return try {
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
    val model = fields.section("model", ::modelOf)
    val graph = fields.section("graph", ::graphOf)
    val recipe = fields.section("quantization", ::recipeOf)
    val prompt = fields.section("prompt", ::promptOf)
    val template = fields.section("template", ::templateOf)
    val snapshot = fields.optionalSection("prefix_snapshot") {
        SnapshotInfo(it.string("file"), it.string("dtype"), it.string("key"))
    }
    val routing = fields.section("routing", ::routingOf)
    val files = fields.sections("files") { FileInfo(it.long("bytes"), it.string("sha256")) }
    for (name in files.keys) {
        rule(staysInside(name)) { "$path: files: names must stay inside the bundle, one is '$name'" }
    }
    for (name in listOfNotNull(graph.file, snapshot?.file, TOKENIZER_FILE)) {
        rule(name in files) { "$path: files: must list '$name'" }
    }
    val weights = fields.anything("provenance").get("weights_sha256")
    val sha256 = if (weights is JsonPrimitive && weights.isString) weights.asString else ""
    val normalized = fields.finish()
    return Manifest(model, graph, recipe, prompt, template, snapshot, routing, files, sha256, normalized)
}

private fun modelOf(fields: Fields): ModelInfo {
    fun positive(name: String): Int = fields.int(name).also { rule(it >= 1) { "$name: must be at least 1, is $it" } }
    return ModelInfo(
        name = fields.string("name"),
        revision = fields.optionalString("revision"),
        architecture = fields.string("architecture"),
        layers = positive("num_hidden_layers"),
        attentionHeads = positive("num_attention_heads"),
        keyValueHeads = positive("num_key_value_heads"),
        headDim = positive("head_dim"),
        vocabSize = positive("vocab_size"),
        contextLength = positive("context_length"),
        eosTokenIds = fields.ints("eos_token_ids"),
    )
}

private fun graphOf(fields: Fields): GraphInfo {
    val cache = fields.section("kv_cache", jsonOf("dtype" to "float32")) {
        it.optionalString("scales")
        it.string("dtype")
    }
    rule(cache == "float32") { "graph.kv_cache.dtype: this library has float32, is $cache" }
    val head = fields.optionalSection("head", ::headOf)
    fields.optionalString("loop_file")
    fields.optionalString("genai_file")
    val tail = fields.int("logits_tail")
    rule(tail >= 1) { "graph.logits_tail: must be at least 1, is $tail" }
    return GraphInfo(
        fields.string("file"),
        tail,
        fields.string("onnxruntime"),
        head,
        sharedCache = fields.boolean("shared_cache", default = true),
        positionIds = fields.boolean("position_ids", default = false),
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
    for (level in levels) {
        rule(level.toDoubleOrNull() != null) { "template.levels: must be numbers, one is '$level'" }
    }
    val minimum = fields.double("min_template_probability")
    rule(minimum in 0.0..1.0) { "template.min_template_probability: must be within [0, 1], is $minimum" }
    return TemplateInfo(
        levels,
        levelIds,
        fields.ints("separator_ids"),
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

private fun staysInside(name: String): Boolean =
    !Paths.get(name).isAbsolute && Paths.get(name).none { it.toString() == ".." }

private inline fun rule(holds: Boolean, message: () -> String) {
    if (!holds) throw JsonException(message())
}
