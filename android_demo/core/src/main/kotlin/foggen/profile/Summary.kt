package foggen.profile

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.jsonOf
import foggen.json.jsonValue
import kotlin.math.floor
import kotlin.math.sqrt

/**
 * Puts a profile's rounds behind those of an earlier one, so that each may come from a process of its own.
 *
 * @throws JsonException the earlier one is of another bundle, device, software or settings, or is no profile
 */
fun mergedProfiles(earlier: JsonObject, later: JsonObject): JsonObject {
    for (name in listOf("schema_version", "software", "bundle", "device")) checkSame(name, earlier.get(name), later.get(name))
    checkSame("settings", withoutRounds(earlier), withoutRounds(later))
    val rounds = listOf(earlier, later).flatMap { it.getAsJsonArray("rounds") ?: throw JsonException("profile: rounds: are missing") }
    val merged = later.deepCopy()
    merged.getAsJsonObject("settings").addProperty("rounds", rounds.size)
    merged.add("summary", summarize(rounds.map(Round::of)))
    merged.add("rounds", jsonValue(rounds))
    return merged
}

private fun withoutRounds(profile: JsonObject): JsonElement? =
    (profile.get("settings") as? JsonObject)?.deepCopy()?.apply { remove("rounds") }

private fun checkSame(name: String, earlier: JsonElement?, later: JsonElement?) {
    if (earlier == later) return
    val found = earlier?.let { compactJson(it) }
    throw JsonException("profile: $name: must be that of the earlier rounds, $found, is ${later?.let { compactJson(it) }}")
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
        "peak_rss_bytes" to median(rounds.map { it.memory.peak }),
        "steady_rss_bytes" to median(rounds.map { it.memory.steady.rss }),
        "steady_anonymous_bytes" to median(rounds.map { it.memory.steady.anonymous }),
        "steady_file_bytes" to median(rounds.map { it.memory.steady.file }),
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
