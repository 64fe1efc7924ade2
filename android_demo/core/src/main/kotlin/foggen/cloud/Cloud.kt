package foggen.cloud

import foggen.CloudRef
import foggen.ConfigException
import foggen.Result
import foggen.Source
import foggen.parseChoice
import foggen.questionOptions
import foggen.tokenizer.isText
import kotlinx.coroutines.flow.Flow
import java.net.URI
import java.net.URISyntaxException

internal const val PATH = "/chat/completions"
private const val MAX_MS = 86_400_000L

/**
 * A server that speaks OpenAI's chat completions, and how long to wait and try.
 *
 * @property url the OpenAI-style base, e.g. `http://127.0.0.1:8000/v1`; `/chat/completions` may follow
 * @property model the model's name on that server
 * @property apiKey sent as a bearer token; never shown
 * @property systemPrompt sent before the user's message
 * @property maxTokens upper limit of the answer's length, in tokens
 * @property connectTimeoutMs to connect: name, TCP and TLS together
 * @property firstTokenTimeoutMs from sending the question to the first sign that the answer is being
 *   written: its text, or thoughts of a reasoning model; comments and empty events are none. After
 *   that, to each next bytes
 * @property totalTimeoutMs to the end of the answer, thoughts included, over all retries and waits
 * @property maxRetries how often the server is asked again where that is safe
 * @property breakerFailures failures in a row after which the server is left alone
 * @property breakerCooldownMs how long it is left alone for
 */
class Cloud(
    val url: String,
    val model: String,
    internal val apiKey: String? = null,
    val systemPrompt: String? = null,
    val maxTokens: Int? = null,
    val connectTimeoutMs: Long = 5_000,
    val firstTokenTimeoutMs: Long = 30_000,
    val totalTimeoutMs: Long = 60_000,
    val maxRetries: Int = 2,
    val breakerFailures: Int = 5,
    val breakerCooldownMs: Long = 30_000,
) {
    init {
        checkUrl(url)
        if (model.isBlank() || !isText(model)) throw ConfigException("model: must be the name of a model, is '$model'")
        if (apiKey != null && !Regex("[!-~]+").matches(apiKey)) {
            throw ConfigException("apiKey: must be visible ASCII characters only, at least one")
        }
        if (systemPrompt != null && !isText(systemPrompt)) {
            throw ConfigException("systemPrompt: must be valid text, holds half a surrogate pair")
        }
        val times = mapOf(
            "connectTimeoutMs" to connectTimeoutMs,
            "firstTokenTimeoutMs" to firstTokenTimeoutMs,
            "totalTimeoutMs" to totalTimeoutMs,
            "breakerCooldownMs" to breakerCooldownMs,
        )
        for ((name, ms) in times) {
            if (ms !in 1..MAX_MS) throw ConfigException("$name: must be within [1, $MAX_MS] ms, is $ms")
        }
        if (maxTokens != null && maxTokens < 1) throw ConfigException("maxTokens: must be at least 1, is $maxTokens")
        if (maxRetries < 0) throw ConfigException("maxRetries: must be at least 0, is $maxRetries")
        if (breakerFailures < 1) throw ConfigException("breakerFailures: must be at least 1, is $breakerFailures")
    }

    /** The URL that questions are posted to. */
    val completionsUrl: String = url.trimEnd('/').removeSuffix(PATH) + PATH
}

/** What comes back from a cloud: pieces, and the whole at last. */
sealed interface CloudEvent {
    /** The next piece of the answer's text. */
    data class Piece(val text: String) : CloudEvent

    /**
     * The whole answer; what the server did not tell is null.
     *
     * @property text without what the model thought aloud before; empty where it refused
     * @property refusal why there is no text although the cloud answered, as one short line
     */
    data class Answer(
        val text: String,
        val finishReason: String?,
        val promptTokens: Int?,
        val completionTokens: Int?,
        val cloud: CloudRef,
        val refusal: String? = null,
    ) : CloudEvent {
        /**
         * Returns a question's result with this answer in it.
         *
         * A refusal is one, without a text: it would be the same the next time. What the model thought
         * aloud names options that it put aside, so no letter is looked for there.
         */
        fun signed(result: Result, question: String): Result = result.copy(
            source = Source.CLOUD,
            reason = if (refusal != null) "cloud_refused" else result.reason,
            detail = if (refusal != null) "cloud: refused to answer: $refusal" else result.detail,
            answer = text.takeIf { refusal == null },
            choice = parseChoice(withoutThoughts(text), questionOptions(question)),
            finishReason = finishReason,
            cloud = cloud,
            usage = result.usage.copy(cloudPromptTokens = promptTokens, cloudCompletionTokens = completionTokens),
        )
    }
}

/** Asks a cloud; [CloudClient] does. */
fun interface Handoff {
    /**
     * Asks, and gives the answer's text piece by piece, the whole at last.
     *
     * @param key marks further deliveries of the same question as such
     * @throws foggen.HandoffException in the flow: the cloud did not answer, perhaps after some pieces
     */
    fun stream(question: String, key: String): Flow<CloudEvent>
}

private fun checkUrl(url: String) {
    val uri = try {
        URI(url)
    } catch (_: URISyntaxException) {
        null
    }
    if (uri == null || uri.scheme !in setOf("http", "https") || uri.host.isNullOrEmpty() || uri.port > 65535) {
        val given = if ('@' in url) "not shown" else "'$url'"
        throw ConfigException("url: must be an http:// or https:// URL with a host, is $given")
    }
    if (uri.userInfo != null || uri.query != null || uri.fragment != null) {
        throw ConfigException("url: must hold no credentials, query or fragment")
    }
}
