package foggen.profile

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import foggen.json.jsonOf
import kotlin.math.floor
import kotlin.math.sqrt

/** One question of a profile; a phase that did not happen is null. Times are milliseconds. */
class QuestionSample(
    val outcome: String,
    val reason: String,
    val confidence: Double?,
    val promptTokens: Int,
    val cachedPromptTokens: Int,
    val forwardPasses: Int,
    val times: Map<String, Double?>,
) {
    fun toJson(): JsonObject {
        val json = jsonOf(
            "outcome" to outcome,
            "reason" to reason,
            "confidence" to confidence,
            "prompt_tokens" to promptTokens,
            "cached_prompt_tokens" to cachedPromptTokens,
            "forward_passes" to forwardPasses,
        )
        for (phase in PHASES) json.add("${phase}_ms", foggen.json.jsonValue(times[phase]))
        return json
    }

    companion object {
        val PHASES = listOf("tokenize", "prefill", "decision", "letter", "answer", "handoff", "total")
    }
}

/**
 * What one process measured.
 *
 * @property phases milliseconds of the process's life
 * @property streams tokens per second of each repetition, by llama-bench's names
 */
class Round(
    val phases: Map<String, Double?>,
    val questions: List<QuestionSample>,
    val streams: Map<String, List<Double>>,
    val loaded: MemoryState,
    val steady: MemoryState,
    val peakAfterQuestions: Long?,
    val peak: Long?,
    val before: JsonObject,
    val after: JsonObject,
) {
    fun toJson(): JsonObject = jsonOf(
        "prepared" to false,
        "phases_ms" to phases,
        "questions" to questions.map { it.toJson() },
        "streams" to streams,
        "memory" to jsonOf(
            "loaded" to loaded.toJson(),
            "steady" to steady.toJson(),
            "peak_after_questions_bytes" to peakAfterQuestions,
            "peak_rss_bytes" to peak,
        ),
        "before" to before,
        "after" to after,
    )
}

/** A process's resident memory in bytes; what the system does not tell is null. */
class MemoryState(val rss: Long?, val anonymous: Long?, val file: Long?, val pss: Long?, val swap: Long?) {
    fun toJson(): JsonObject = jsonOf(
        "rss_bytes" to rss,
        "anonymous_bytes" to anonymous,
        "file_bytes" to file,
        "pss_bytes" to pss,
        "swap_bytes" to swap,
    )
}

/** Percentiles (linear interpolation), mean and sample standard deviation; null of no values. */
internal fun distribution(values: List<Double?>): JsonObject? {
    val sorted = values.filterNotNull().sorted()
    if (sorted.isEmpty()) return null
    val mean = sorted.average()
    val deviation = sqrt(sorted.sumOf { (it - mean) * (it - mean) } / (sorted.size - 1))
    return jsonOf(
        "count" to sorted.size,
        "p50" to percentile(sorted, 0.5),
        "p90" to percentile(sorted, 0.9),
        "p99" to percentile(sorted, 0.99),
        "mean" to mean,
        "stddev" to if (sorted.size > 1) deviation else null,
    )
}

/** The rounds in figures, as Python's `profiling/summary.py` gives them. */
internal fun summarize(rounds: List<Round>): JsonObject {
    val samples = rounds.flatMap { it.questions }
    return jsonOf(
        "process_ms" to described(rounds[0].phases.keys) { phase -> rounds.map { it.phases[phase] } },
        "questions_ms" to questionTimes(samples),
        "outcomes" to listOf("local", "deferred").associateWith { name ->
            val group = samples.filter { it.outcome == name }
            jsonOf("count" to group.size, "times_ms" to questionTimes(group))
        },
        "wasted" to wasted(samples),
        "tokens_per_second" to described(rounds[0].streams.keys) { name -> rounds.flatMap { it.streams.getValue(name) } },
        "peak_rss_bytes" to median(rounds.map { it.peak }),
        "steady_rss_bytes" to median(rounds.map { it.steady.rss }),
        "steady_anonymous_bytes" to median(rounds.map { it.steady.anonymous }),
        "steady_file_bytes" to median(rounds.map { it.steady.file }),
    )
}

private fun questionTimes(samples: List<QuestionSample>): Map<String, JsonElement> =
    described(QuestionSample.PHASES) { phase -> samples.map { it.times[phase] } }

private fun described(names: Collection<String>, values: (String) -> List<Double?>): Map<String, JsonElement> =
    names.mapNotNull { name -> distribution(values(name))?.let { name to it } }.toMap()

/** Adds up the local work on deferred questions; the handoff itself is not local. */
private fun wasted(samples: List<QuestionSample>): JsonObject? {
    val deferred = samples.filter { it.outcome == "deferred" }
    val decisions = distribution(deferred.map { it.times["decision"] }) ?: return null
    val local = samples.sumOf { (it.times["total"] ?: 0.0) - (it.times["handoff"] ?: 0.0) }
    return jsonOf(
        "decision_ms" to decisions,
        "share_of_local_time" to deferred.sumOf { it.times["decision"] ?: 0.0 } / local,
        "forward_passes" to deferred.map { it.forwardPasses }.average(),
        "fed_tokens" to deferred.map { it.promptTokens - it.cachedPromptTokens }.average(),
    )
}

private fun median(values: List<Long?>): Double? {
    val sorted = values.filterNotNull().map { it.toDouble() }.sorted()
    return if (sorted.isEmpty()) null else percentile(sorted, 0.5)
}

private fun percentile(sorted: List<Double>, share: Double): Double {
    val place = share * (sorted.size - 1)
    val below = floor(place).toInt()
    val above = minOf(below + 1, sorted.size - 1)
    return sorted[below] + (place - below) * (sorted[above] - sorted[below])
}
