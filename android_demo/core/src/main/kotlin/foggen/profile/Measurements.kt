package foggen.profile

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import foggen.json.Fields
import foggen.json.JsonException
import foggen.json.jsonOf

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

        /** Reads what [toJson] wrote. */
        fun of(fields: Fields) = QuestionSample(
            outcome = fields.string("outcome"),
            reason = fields.string("reason"),
            confidence = fields.optionalDouble("confidence"),
            promptTokens = fields.int("prompt_tokens"),
            cachedPromptTokens = fields.int("cached_prompt_tokens"),
            forwardPasses = fields.int("forward_passes"),
            times = PHASES.associateWith { fields.optionalDouble("${it}_ms") },
        )
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
    val memory: RoundMemory,
    val before: JsonObject,
    val after: JsonObject,
) {
    fun toJson(): JsonObject = jsonOf(
        "prepared" to false,
        "phases_ms" to phases,
        "questions" to questions.map { it.toJson() },
        "streams" to streams,
        "memory" to memory.toJson(),
        "before" to before,
        "after" to after,
    )

    companion object {
        /**
         * Reads what [toJson] wrote.
         *
         * @throws JsonException a field is missing, unknown or of the wrong type
         */
        fun of(json: JsonElement): Round {
            val fields = Fields(json, "round")
            fields.boolean("prepared")
            val round = Round(
                phases = fields.numbers("phases_ms"),
                questions = fields.sectionList("questions", QuestionSample::of),
                streams = fields.numberLists("streams"),
                memory = fields.section("memory", RoundMemory::of),
                before = fields.anything("before"),
                after = fields.anything("after"),
            )
            fields.finish()
            return round
        }
    }
}

/** A process's memory once the bundle was loaded, after the questions, and at most; bytes. */
class RoundMemory(val loaded: MemoryState, val steady: MemoryState, val peakAfterQuestions: Long?, val peak: Long?) {
    fun toJson(): JsonObject = jsonOf(
        "loaded" to loaded.toJson(),
        "steady" to steady.toJson(),
        "peak_after_questions_bytes" to peakAfterQuestions,
        "peak_rss_bytes" to peak,
    )

    companion object {
        /** Reads what [toJson] wrote. */
        fun of(fields: Fields) = RoundMemory(
            fields.section("loaded", MemoryState::of),
            fields.section("steady", MemoryState::of),
            fields.optionalLong("peak_after_questions_bytes"),
            fields.optionalLong("peak_rss_bytes"),
        )
    }
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

    companion object {
        /** Reads what [toJson] wrote. */
        fun of(fields: Fields) = MemoryState(
            fields.optionalLong("rss_bytes"),
            fields.optionalLong("anonymous_bytes"),
            fields.optionalLong("file_bytes"),
            fields.optionalLong("pss_bytes"),
            fields.optionalLong("swap_bytes"),
        )
    }
}
