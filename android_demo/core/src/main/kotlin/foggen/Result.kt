package foggen

import com.google.gson.JsonObject
import foggen.bundle.ConfidenceKind
import foggen.json.Fields
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.jsonOf

const val SCHEMA_VERSION = 1

/** Who answered; [QUEUED] when the question waits in the outbox. */
enum class Source(val word: String) { LOCAL("local"), CLOUD("cloud"), QUEUED("queued"), NONE("none") }

/** Tokens and forward passes spent. */
data class Usage(
    val promptTokens: Int = 0,
    val cachedPromptTokens: Int = 0,
    val forwardPasses: Int = 0,
    val decodedTokens: Int = 0,
    val cloudPromptTokens: Int? = null,
    val cloudCompletionTokens: Int? = null,
)

/**
 * Milliseconds by phase; a phase that did not happen is null.
 *
 * @property decision the time to decision (TTD): from the question to local-or-cloud; includes
 *   [tokenize] and [prefill], the first forward pass
 */
data class Timing(
    val tokenize: Double? = null,
    val prefill: Double? = null,
    val decision: Double? = null,
    val answer: Double? = null,
    val handoff: Double? = null,
    val total: Double = 0.0,
)

/** Which bundle answered. */
data class BundleRef(val name: String, val sha256: String)

/**
 * Which cloud answered.
 *
 * @property endpoint the base of its URL
 * @property model the model, as the server named it
 * @property attempts requests that were made until one was answered
 * @property requestId the server's own name of the request
 */
data class CloudRef(val endpoint: String?, val model: String?, val attempts: Int, val requestId: String?)

/**
 * An answer with its provenance: the schema of the Python runtime's `result.py`, field by field.
 *
 * @property id of this question; also its entry in the outbox and the idempotency key
 * @property answer the answer's text, without the template around it; null when there is none
 * @property reason why that source: `confident`, `below_tau`, `malformed`, `context_length`, `mode`,
 *   or what went wrong: `local_error`, `no_cloud`, `cloud_unreachable`, `outbox_full`, ...
 * @property deferral why the question was not kept on the device; null when it was kept
 * @property detail a sentence on what went wrong, for people
 * @property confidence the verbalized level; null when the output was malformed
 * @property tauOn which confidence tau was compared with
 * @property levelProbabilities probability of each level, in the template's order
 */
data class Result(
    val tau: Double,
    val tauSource: String,
    val bundle: BundleRef,
    val id: String = "",
    val answer: String? = null,
    val source: Source = Source.NONE,
    val reason: String = "",
    val deferral: String? = null,
    val choice: String? = null,
    val detail: String? = null,
    val confidence: Double? = null,
    val levelProbabilities: List<Double>? = null,
    val expectedConfidence: Double? = null,
    val templateProbability: Double? = null,
    val finishReason: String? = null,
    val prefixSource: String = "none",
    val tauOn: ConfidenceKind = ConfidenceKind.VERBALIZED,
    val cloud: CloudRef? = null,
    val usage: Usage = Usage(),
    val timingMs: Timing = Timing(),
) {
    /** What tau is compared with; 0 where there is none. */
    val comparedConfidence: Double
        get() = (if (tauOn == ConfidenceKind.EXPECTED) expectedConfidence else confidence) ?: 0.0

    /** Returns the result as JSON, `schema_version` first. */
    fun toJson(): JsonObject = jsonOf(
        "schema_version" to SCHEMA_VERSION,
        "answer" to answer,
        "source" to source.word,
        "reason" to reason,
        "tau" to tau,
        "tau_source" to tauSource,
        "bundle" to jsonOf("name" to bundle.name, "sha256" to bundle.sha256),
        "id" to id,
        "deferral" to deferral,
        "choice" to choice,
        "detail" to detail,
        "confidence" to confidence,
        "level_probabilities" to levelProbabilities,
        "expected_confidence" to expectedConfidence,
        "template_probability" to templateProbability,
        "finish_reason" to finishReason,
        "prefix_source" to prefixSource,
        "tau_on" to tauOn.word,
        "cloud" to cloud?.let {
            jsonOf("endpoint" to it.endpoint, "model" to it.model, "attempts" to it.attempts, "request_id" to it.requestId)
        },
        "usage" to jsonOf(
            "prompt_tokens" to usage.promptTokens,
            "cached_prompt_tokens" to usage.cachedPromptTokens,
            "forward_passes" to usage.forwardPasses,
            "decoded_tokens" to usage.decodedTokens,
            "cloud_prompt_tokens" to usage.cloudPromptTokens,
            "cloud_completion_tokens" to usage.cloudCompletionTokens,
        ),
        "timing_ms" to jsonOf(
            "tokenize" to timingMs.tokenize,
            "prefill" to timingMs.prefill,
            "decision" to timingMs.decision,
            "answer" to timingMs.answer,
            "handoff" to timingMs.handoff,
            "total" to timingMs.total,
        ),
    )

    /** Returns the result as a line of JSON. */
    fun toJsonString(): String = compactJson(toJson())

    companion object {
        /**
         * Reads what [toJson] wrote.
         *
         * @throws JsonException a field is missing, unknown or of the wrong type
         */
        fun of(json: JsonObject): Result {
            val fields = Fields(json, "result")
            if (fields.int("schema_version") != SCHEMA_VERSION) {
                throw JsonException("result: schema_version: must be $SCHEMA_VERSION")
            }
            val source = fields.string("source")
            val tauOn = fields.optionalString("tau_on") ?: ConfidenceKind.VERBALIZED.word
            val result = Result(
                answer = fields.optionalString("answer"),
                source = Source.values().firstOrNull { it.word == source } ?: throw JsonException("result: source: no '$source'"),
                reason = fields.string("reason"),
                tau = fields.double("tau"),
                tauSource = fields.string("tau_source"),
                bundle = fields.section("bundle") { BundleRef(it.string("name"), it.string("sha256")) },
                id = fields.string("id"),
                deferral = fields.optionalString("deferral"),
                choice = fields.optionalString("choice"),
                detail = fields.optionalString("detail"),
                confidence = fields.optionalDouble("confidence"),
                levelProbabilities = fields.optionalDoubles("level_probabilities"),
                expectedConfidence = fields.optionalDouble("expected_confidence"),
                templateProbability = fields.optionalDouble("template_probability"),
                finishReason = fields.optionalString("finish_reason"),
                prefixSource = fields.string("prefix_source"),
                tauOn = ConfidenceKind.values().firstOrNull { it.word == tauOn } ?: throw JsonException("result: tau_on: no '$tauOn'"),
                cloud = fields.optionalSection("cloud", ::cloudOf),
                usage = fields.section("usage", ::usageOf),
                timingMs = fields.section("timing_ms", ::timingOf),
            )
            fields.finish()
            return result
        }
    }
}

private fun cloudOf(fields: Fields) = CloudRef(
    fields.optionalString("endpoint"),
    fields.optionalString("model"),
    fields.int("attempts"),
    fields.optionalString("request_id"),
)

private fun usageOf(fields: Fields) = Usage(
    fields.int("prompt_tokens"),
    fields.int("cached_prompt_tokens"),
    fields.int("forward_passes"),
    fields.int("decoded_tokens"),
    fields.optionalInt("cloud_prompt_tokens"),
    fields.optionalInt("cloud_completion_tokens"),
)

private fun timingOf(fields: Fields) = Timing(
    fields.optionalDouble("tokenize"),
    fields.optionalDouble("prefill"),
    fields.optionalDouble("decision"),
    fields.optionalDouble("answer"),
    fields.optionalDouble("handoff"),
    fields.double("total"),
)
