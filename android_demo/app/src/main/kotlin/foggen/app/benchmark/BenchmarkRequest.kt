package foggen.app.benchmark

import foggen.ConfigException
import foggen.Route
import foggen.engine.BufferAllocator
import foggen.engine.EngineOptions
import foggen.profile.ProfileSettings

/**
 * What `am start` may ask of the benchmark.
 *
 * @property output the file's name, in the application's own directory
 * @property append whether the file keeps the rounds it has, so that each comes from a process of its own
 * @property questions how many are asked
 * @property threads null takes the big cores
 */
data class BenchmarkRequest(
    val output: String = "profile.json",
    val append: Boolean = false,
    val questions: Int = 20,
    val warmUp: Int = 2,
    val threads: Int? = null,
    val spinning: Boolean = true,
    val kleidiai: Boolean = true,
    val maxNewTokens: Int = 32,
) {
    init {
        if (!Regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}").matches(output)) {
            throw ConfigException("output: must be a file's name of letters, digits, '.', '_' and '-', is '$output'")
        }
        if (questions !in 1..MAX_QUESTIONS) throw ConfigException("questions: must be within [1, $MAX_QUESTIONS], is $questions")
        if (warmUp !in 0..MAX_QUESTIONS) throw ConfigException("warm_up: must be within [0, $MAX_QUESTIONS], is $warmUp")
    }

    /** Asks the given questions in turn, on the device only. */
    fun settings(from: List<String>, allocator: BufferAllocator) = ProfileSettings(
        questions = List(questions) { from[it % from.size] },
        warmUp = warmUp,
        route = Route.LOCAL_ONLY,
        maxNewTokens = maxNewTokens,
        engine = EngineOptions(threads, spinning, kleidiai = kleidiai, allocator = allocator),
    )

    companion object {
        const val MAX_QUESTIONS = 10_000

        /**
         * Reads an intent's extras.
         *
         * @throws ConfigException one is unknown, of the wrong type, or out of range
         */
        fun of(extras: Map<String, Any?>): BenchmarkRequest {
            val known = setOf("output", "append", "questions", "warm_up", "threads", "spinning", "kleidiai", "max_new_tokens")
            (extras.keys - known).firstOrNull()?.let { throw ConfigException("extras: must be among $known, one is '$it'") }
            val plain = BenchmarkRequest()
            return BenchmarkRequest(
                output = typed(extras, "output", plain.output),
                append = typed(extras, "append", plain.append),
                questions = typed(extras, "questions", plain.questions),
                warmUp = typed(extras, "warm_up", plain.warmUp),
                threads = if ("threads" in extras) typed(extras, "threads", 0) else null,
                spinning = typed(extras, "spinning", plain.spinning),
                kleidiai = typed(extras, "kleidiai", plain.kleidiai),
                maxNewTokens = typed(extras, "max_new_tokens", plain.maxNewTokens),
            )
        }

        private inline fun <reified T : Any> typed(extras: Map<String, Any?>, name: String, default: T): T {
            val value = if (name in extras) extras[name] else return default
            return value as? T ?: throw ConfigException("$name: must be a ${T::class.java.simpleName}, is '$value'")
        }
    }
}
