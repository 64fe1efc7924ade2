package foggen.profile

import com.google.gson.JsonObject
import foggen.AskEvent
import foggen.AskOptions
import foggen.Foggen
import foggen.LocalModel
import foggen.OpenOptions
import foggen.OrtEngineFactory
import foggen.Result
import foggen.Route
import foggen.Services
import foggen.Source
import foggen.decoding.argMax
import foggen.engine.EngineOptions
import foggen.engine.ONNXRUNTIME_VERSION
import foggen.json.jsonOf
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import java.nio.file.Path
import java.time.Instant
import java.util.Random

private const val PROFILE_VERSION = 1

/**
 * What to measure, and how; the names are those of `foggen profile`.
 *
 * @property warmUp questions asked before the measured ones, not counted
 * @property promptLength N of `ppN`, tokens fed at once to an empty cache
 * @property generatedLength N of `tgN`, tokens fed one by one to an empty cache
 * @property repetitions of both, after one that does not count
 */
class ProfileSettings(
    val questions: List<String>,
    val warmUp: Int = 2,
    val route: Route = Route.AUTO,
    val tau: Double? = null,
    val maxNewTokens: Int = 32,
    val engine: EngineOptions = EngineOptions(),
    val promptLength: Int = 128,
    val generatedLength: Int = 64,
    val repetitions: Int = 3,
)

/** How far a profile is. */
sealed interface ProfileEvent {
    data object Loading : ProfileEvent

    data class Asked(val done: Int, val of: Int) : ProfileEvent

    data object Streaming : ProfileEvent

    /** The document that `foggen profile --output` would write. */
    data class Finished(val profile: JsonObject) : ProfileEvent
}

/**
 * Measures a bundle in this process, once: a fresh process for each round gives cleaner figures.
 *
 * @param notes where it is noted that a bundle's files were verified, as [OpenOptions] has it
 * @param processStartMs from the request for this process to the first line of foggen, if known
 */
class Profiler(
    private val surroundings: Surroundings = LinuxSurroundings(),
    private val services: Services = Services(),
    private val processStartMs: Double = 0.0,
    private val notes: Path? = null,
) {
    fun profile(directory: Path, settings: ProfileSettings): Flow<ProfileEvent> = flow {
        require(settings.questions.isNotEmpty()) { "questions: must be at least one" }
        emit(ProfileEvent.Loading)
        val begin = System.nanoTime()
        val before = surroundings.conditions()
        val phases = linkedMapOf<String, Double?>("process_start" to processStartMs, "imports" to 0.0)
        val model = timed(phases, "load") { LocalModel.open(directory, OpenOptions(OrtEngineFactory(settings.engine), notes = notes)) }
        model.use {
            timed(phases, "prefix_restore") { model.restorePrefix() }
            val loaded = surroundings.memory()
            val foggen = Foggen(model, services)
            val cycle = generateSequence { settings.questions }.flatten()
            val warming = cycle.take(settings.warmUp).toList()
            val firstBegin = elapsedMs(begin)
            var firstDecision: Double? = null
            timed(phases, "warm_up") {
                for (question in warming) {
                    val sample = ask(foggen, question, settings)
                    if (firstDecision == null) firstDecision = sample.times["decision"]?.let { processStartMs + firstBegin + it }
                }
            }
            val samples = ArrayList<QuestionSample>()
            timed(phases, "questions") {
                for (question in settings.questions) {
                    samples += ask(foggen, question, settings)
                    emit(ProfileEvent.Asked(samples.size, settings.questions.size))
                }
            }
            val steady = surroundings.memory()
            val peak = surroundings.peakMemory()
            emit(ProfileEvent.Streaming)
            val streams = timed(phases, "streams") { streams(model, settings) }
            phases["exit"] = 0.0
            phases["wall"] = processStartMs + elapsedMs(begin)
            phases["unaccounted"] = 2 * phases.getValue("wall")!! - phases.values.sumOf { it ?: 0.0 }
            phases["first_decision"] = firstDecision
            val memory = RoundMemory(loaded, steady, peak, surroundings.peakMemory())
            val round = Round(phases, samples, streams, memory, before, surroundings.conditions())
            emit(ProfileEvent.Finished(document(model, settings, round)))
        }
    }

    private suspend fun ask(foggen: Foggen, question: String, settings: ProfileSettings): QuestionSample {
        val begin = System.nanoTime()
        var letter: Double? = null
        var result: Result? = null
        val options = AskOptions(route = settings.route, tau = settings.tau, maxNewTokens = settings.maxNewTokens)
        foggen.stream(question, options).collect { event ->
            when (event) {
                is AskEvent.Piece -> letter = letter ?: elapsedMs(begin)
                is AskEvent.Finished -> result = event.result
                is AskEvent.Decided -> return@collect
            }
        }
        return sample(checkNotNull(result) { "a question must end with a result" }, letter)
    }

    private fun sample(result: Result, letter: Double?): QuestionSample {
        val timing = result.timingMs
        return QuestionSample(
            outcome = if (result.source == Source.LOCAL) "local" else "deferred",
            reason = result.reason,
            confidence = result.confidence,
            promptTokens = result.usage.promptTokens,
            cachedPromptTokens = result.usage.cachedPromptTokens,
            forwardPasses = result.usage.forwardPasses,
            times = mapOf(
                "tokenize" to timing.tokenize,
                "prefill" to timing.prefill,
                "decision" to timing.decision,
                "letter" to letter,
                "answer" to timing.answer,
                "handoff" to timing.handoff,
                "total" to timing.total,
            ),
        )
    }

    /** Feeds random tokens at once, and one by one; the cached prefix is put back. */
    private fun streams(model: LocalModel, settings: ProfileSettings): Map<String, List<Double>> {
        val random = Random(1)
        val vocabulary = model.bundle.manifest.model.vocabSize
        val ids = IntArray(settings.promptLength) { random.nextInt(vocabulary) }
        val engine = model.engine
        val prompts = (0..settings.repetitions).map {
            engine.truncate(0)
            rate(ids.size) { engine.forward(ids) }
        }
        val tokens = (0..settings.repetitions).map {
            engine.truncate(0)
            var token = ids[0]
            rate(settings.generatedLength) {
                repeat(settings.generatedLength) { token = argMax(engine.forward(intArrayOf(token)).row(0)) % vocabulary }
            }
        }
        model.restorePrefix()
        return mapOf("pp${settings.promptLength}" to prompts.drop(1), "tg${settings.generatedLength}" to tokens.drop(1))
    }

    private fun document(model: LocalModel, settings: ProfileSettings, round: Round): JsonObject {
        val manifest = model.bundle.manifest
        return jsonOf(
            "schema_version" to PROFILE_VERSION,
            "created" to Instant.now().toString(),
            "software" to jsonOf("foggen" to null, "onnxruntime" to ONNXRUNTIME_VERSION),
            "bundle" to jsonOf(
                "name" to manifest.model.name,
                "recipe" to manifest.recipe,
                "sha256" to manifest.sha256,
                "bytes" to manifest.files.values.sumOf { it.bytes },
            ),
            "device" to surroundings.device(),
            "settings" to jsonOf(
                "rounds" to 1,
                "questions" to settings.questions.size,
                "warm_up" to settings.warmUp,
                "cool_down_s" to 0.0,
                "question_source" to "file",
                "prompt_tokens" to null,
                "route" to settings.route.name.lowercase(),
                "tau" to settings.tau,
                "max_new_tokens" to settings.maxNewTokens,
                "threads" to settings.engine.threads,
                "spinning" to settings.engine.spinning,
                "kleidiai" to settings.engine.kleidiai,
                "prompt_length" to settings.promptLength,
                "generated_length" to settings.generatedLength,
                "repetitions" to settings.repetitions,
                "launcher" to emptyList<String>(),
                "cloud" to (services.handoff != null),
                "device_profile" to null,
            ),
            "summary" to summarize(listOf(round)),
            "operators" to emptyMap<String, Any>(),
            "rounds" to listOf(round.toJson()),
        )
    }
}

private inline fun <T> timed(phases: MutableMap<String, Double?>, name: String, work: () -> T): T {
    val begin = System.nanoTime()
    return work().also { phases[name] = elapsedMs(begin) }
}

private inline fun rate(tokens: Int, work: () -> Unit): Double {
    val begin = System.nanoTime()
    work()
    return tokens / (elapsedMs(begin) / 1e3)
}

private fun elapsedMs(since: Long): Double = (System.nanoTime() - since) / 1e6
