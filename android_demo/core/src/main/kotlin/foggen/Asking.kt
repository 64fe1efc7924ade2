package foggen

import foggen.cloud.CloudEvent
import foggen.decoding.Decision
import foggen.decoding.Decoder
import foggen.decoding.Reading
import foggen.tokenizer.isPythonSpace
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.FlowCollector

/** One question on its way: decide here, then answer here, hand off, or queue. */
internal class Asking(
    private val model: LocalModel,
    private val services: Services,
    private val question: String,
    private val options: AskOptions,
) {
    private val template = model.bundle.manifest.template
    private val eos = model.bundle.manifest.model.eosTokenIds
    private val route = options.route ?: services.policy.route
    private val started = System.nanoTime()
    private val passesBefore = model.engine.forwardPasses
    private lateinit var result: Result
    private lateinit var events: FlowCollector<AskEvent>
    private var timing = Timing()

    suspend fun run(blank: Result, collector: FlowCollector<AskEvent>) {
        result = blank
        events = collector
        val prompt = model.promptIds(question)
        var decided: Decided? = null
        if (route == Route.CLOUD_ONLY) note("mode") else decided = runLocally(prompt)
        if (result.source == Source.NONE && route != Route.LOCAL_ONLY) {
            result = result.copy(deferral = result.reason)
            handOff(decided)
        }
        result = result.copy(timingMs = timing.copy(total = elapsed()))
        events.emit(AskEvent.Finished(result))
    }

    private class Decided(val decoder: Decoder, val decision: Decision)

    /** Decides, and answers if that is what the decision or the route says. */
    private suspend fun runLocally(prompt: IntArray): Decided? {
        timing = timing.copy(tokenize = elapsed())
        if (prompt.size > model.room) {
            note("context_length", "the prompt has ${prompt.size} tokens, the bundle takes ${model.room}")
            return null
        }
        return try {
            val decoder = model.decoder(options)
            val decision = decoder.decide(prompt.copyOfRange(model.prefixLength, prompt.size))
            judge(decision)
            timing = timing.copy(prefill = decision.prefillMs, decision = elapsed())
            count(prompt.size, decision.tokens.size)
            events.emit(AskEvent.Decided(result.copy(timingMs = timing)))
            if (answersHere(decision)) answer(decoder, decision)
            Decided(decoder, decision)
        } catch (error: EngineException) {
            note("local_error", error.message)
            null
        }
    }

    /** Compares with tau, and notes why. */
    private fun judge(decision: Decision) {
        val reading = decision.reading
        if (reading != null) {
            result = result.copy(
                levelProbabilities = reading.levelProbabilities.toList(),
                expectedConfidence = reading.levelProbabilities.indices.sumOf {
                    template.levelValues[it] * reading.levelProbabilities[it]
                },
                templateProbability = reading.templateProbability,
            )
        }
        val level = decision.level ?: return note("malformed", "the output left the template")
        result = result.copy(confidence = template.levelValues[level])
        when {
            reading != null && isAlien(reading) -> note(
                "malformed",
                "template_probability ${reading.templateProbability} is below the bundle's minimum " +
                    "${template.minTemplateProbability}: no question for this model",
            )
            result.comparedConfidence >= result.tau -> note("confident")
            else -> note(if (route == Route.LOCAL_ONLY) "mode" else "below_tau")
        }
    }

    /** Whether a constrained level means nothing: left alone, the model wrote otherwise. */
    private fun isAlien(reading: Reading): Boolean =
        options.mode == DecodingMode.CONSTRAINED &&
            reading.templateProbability?.let { it < template.minTemplateProbability } == true

    private fun answersHere(decision: Decision): Boolean =
        if (route == Route.LOCAL_ONLY) decision.level != null else result.reason == "confident"

    /** Decodes the answer; without the template's answer prefix there is none. */
    private suspend fun answer(decoder: Decoder, decision: Decision) {
        val decided = elapsed()
        val prefix = template.answerPrefixIds
        val tokens = ArrayList<Int>()
        val text = StringBuilder()
        val stream = model.tokenizer.stream()
        for (token in decoder.answer(options.maxNewTokens)) {
            currentCoroutineContext().ensureActive()
            tokens += token
            if (tokens.size <= prefix.size) {
                if (token != prefix[tokens.size - 1]) break
            } else if (token !in eos) {
                give(text, stream.feed(token))
            }
        }
        give(text, stream.finish())
        count(result.usage.promptTokens, decision.tokens.size + tokens.size)
        timing = timing.copy(answer = elapsed() - decided)
        if (tokens.size < prefix.size || prefix.indices.any { tokens[it] != prefix[it] }) {
            return note("malformed", "the output left the template after the level")
        }
        val answer = text.trimEnd(::isPythonSpace).toString()
        result = result.copy(
            source = Source.LOCAL,
            answer = answer,
            choice = parseChoice(answer),
            finishReason = if (tokens.last() in eos) "stop" else "length",
        )
    }

    private suspend fun give(text: StringBuilder, piece: String) {
        val shown = if (text.isEmpty()) piece.trimStart(::isPythonSpace) else piece
        text.append(shown)
        if (shown.isNotEmpty()) events.emit(AskEvent.Piece(shown, Source.LOCAL))
    }

    /** Asks the cloud; when it fails, says so in the result and does what the policy says. */
    private suspend fun handOff(decided: Decided?) {
        val handoff = services.handoff
        if (handoff == null && services.policy.onUnreachable == OnUnreachable.FAIL) return
        val before = elapsed()
        var begun = false
        try {
            if (handoff == null) throw HandoffException("no_cloud", "no cloud is set")
            handoff.stream(question, result.id).collect { event ->
                when (event) {
                    is CloudEvent.Piece -> {
                        begun = true
                        events.emit(AskEvent.Piece(event.text, Source.CLOUD))
                    }
                    is CloudEvent.Answer -> result = event.signed(result, question)
                }
            }
            timing = timing.copy(handoff = elapsed() - before)
        } catch (error: HandoffException) {
            timing = timing.copy(handoff = if (handoff == null) null else elapsed() - before)
            note(error.reason, error.message)
            if (services.policy.onUnreachable == OnUnreachable.QUEUE) queue()
            // A local answer cannot follow a part of the cloud's.
            if (services.policy.onUnreachable == OnUnreachable.ANSWER_LOCALLY && !begun) answerLocally(decided)
        }
    }

    private suspend fun answerLocally(decided: Decided?) {
        if (decided?.decision?.level == null) return
        try {
            answer(decided.decoder, decided.decision)
        } catch (error: EngineException) {
            note("local_error", error.message)
        }
    }

    private suspend fun queue() {
        val outbox = services.outbox ?: return
        val queued = result.copy(source = Source.QUEUED, timingMs = timing.copy(total = elapsed()))
        try {
            outbox.accept(question, queued)
            result = queued
        } catch (error: OutboxException) {
            note(error.reason, "${error.message} (${result.reason}: ${result.detail})")
        }
    }

    private fun count(promptTokens: Int, decodedTokens: Int) {
        result = result.copy(
            usage = Usage(
                promptTokens = promptTokens,
                cachedPromptTokens = model.prefixLength,
                forwardPasses = model.engine.forwardPasses - passesBefore,
                decodedTokens = decodedTokens,
            ),
        )
    }

    private fun note(reason: String, detail: String? = null) {
        result = result.copy(reason = reason, detail = detail)
    }

    private fun elapsed(): Double = (System.nanoTime() - started) / 1e6
}
