package foggen.app.benchmark

import com.google.gson.JsonObject

/**
 * One row of the chart, in milliseconds.
 *
 * @property median half of the questions took no longer
 * @property slow nine in ten took no longer
 */
data class Bar(val phase: String, val median: Double, val slow: Double)

private val PHASES = listOf("prefill", "decision", "letter", "answer", "total")

/** Returns a profile's phases that happened, in their order in time. */
fun barsOf(profile: JsonObject): List<Bar> {
    val times = profile.getAsJsonObject("summary").getAsJsonObject("questions_ms")
    return PHASES.mapNotNull { phase ->
        times.getAsJsonObject(phase)?.let { Bar(phase, it.get("p50").asDouble, it.get("p90").asDouble) }
    }
}

/** Returns tokens per second by llama-bench's names, e.g. `pp128` and `tg64`. */
fun ratesOf(profile: JsonObject): Map<String, Double> =
    profile.getAsJsonObject("summary").getAsJsonObject("tokens_per_second").entrySet()
        .associate { (name, value) -> name to value.asJsonObject.get("p50").asDouble }
