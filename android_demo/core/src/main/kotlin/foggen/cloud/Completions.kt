package foggen.cloud

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import foggen.CloudRef
import foggen.HandoffException
import foggen.json.JsonException
import foggen.json.parseJson
import java.io.ByteArrayOutputStream

private const val QUOTED = 200 // characters of a server's message that are shown
private const val ECHO = 12 // characters in a row that count as repeating a secret
private const val LF = '\n'.code.toByte()
private const val CR = '\r'.code.toByte()
private const val BOM = "\uFEFF"

// Finish reasons of an answer that was kept back.
private val WITHHELD = setOf("content_filter", "refusal", "safety")

/**
 * Takes server-sent events apart: gives the `data` of each.
 *
 * As the HTML standard has it, an event without data is none, and a byte order mark may come before
 * the first.
 */
internal class EventReader {
    private val line = ByteArrayOutputStream()
    private val data = ArrayList<String>()
    private var afterCr = false
    private var first = true

    /** Returns the events that end within this chunk. Lines end with CR, LF or CRLF. */
    fun feed(chunk: ByteArray): List<String> {
        val events = ArrayList<String>()
        for (byte in chunk) {
            if (byte == LF && afterCr) {
                afterCr = false
                continue
            }
            afterCr = byte == CR
            if (byte == LF || byte == CR) endLine()?.let { events += it } else line.write(byte.toInt())
        }
        return events
    }

    /** Returns what a stream that ends here still holds. */
    fun finish(): List<String> {
        val last = if (line.size() > 0) endLine() else null
        return listOfNotNull(last, endLine())
    }

    private fun endLine(): String? {
        var text = String(line.toByteArray(), Charsets.UTF_8)
        line.reset()
        if (first) text = text.removePrefix(BOM)
        first = false
        if (text.startsWith("data:")) data += text.substring("data:".length)
        if (text.isNotEmpty() || data.isEmpty()) return null
        return data.joinToString("\n").also { data.clear() }.ifBlank { null }
    }
}

/** Reads an answer as its bytes come. */
internal interface AnswerReader {
    /** Whether nothing more will be read. */
    val done: Boolean

    /** Whether the model is at work, so that silence counts from the last bytes. */
    val begun: Boolean

    /** Returns the pieces of text that end within this chunk. */
    fun feed(chunk: ByteArray): List<String>

    /** Returns what a body that ends here still holds. */
    fun finish(): List<String>

    /** Returns the whole answer, after the end; [cloud] lacks what the server tells in the body. */
    fun answer(cloud: CloudRef): CloudEvent.Answer
}

/**
 * Reads a streamed chat completion; it is whole once `[DONE]` or a finish reason was seen.
 *
 * @param secrets what no message may repeat: the question and the key
 */
internal class StreamReader(secrets: List<String>) : AnswerReader {
    private val events = EventReader()
    private val reading = Reading(secrets)

    override var done = false
        private set
    override val begun: Boolean get() = reading.begun

    override fun feed(chunk: ByteArray): List<String> = texts(events.feed(chunk))

    override fun finish(): List<String> = texts(events.finish()) + listOf(reading.finish()).filter { it.isNotEmpty() }

    override fun answer(cloud: CloudRef): CloudEvent.Answer {
        if (!done && !reading.finished) throw invalid("the stream ended within the answer")
        return reading.answer(cloud)
    }

    private fun texts(events: List<String>): List<String> {
        val pieces = ArrayList<String>()
        for (data in events) {
            done = done || data.trim() == "[DONE]"
            if (done) break
            reading.take(data, "delta").let { if (it.isNotEmpty()) pieces += it }
        }
        return pieces
    }
}

/** Reads a chat completion that comes whole, from servers that cannot stream. */
internal class DocumentReader(secrets: List<String>) : AnswerReader {
    private val body = ByteArrayOutputStream()
    private val reading = Reading(secrets)

    override val done = false
    override val begun: Boolean get() = body.size() > 0

    override fun feed(chunk: ByteArray): List<String> {
        body.write(chunk)
        return emptyList()
    }

    override fun finish(): List<String> {
        val text = reading.take(String(body.toByteArray(), Charsets.UTF_8).removePrefix(BOM), "message") + reading.finish()
        return listOf(text).filter { it.isNotEmpty() }
    }

    override fun answer(cloud: CloudRef): CloudEvent.Answer = reading.answer(cloud)
}

/** What was read of one answer so far. */
private class Reading(private val secrets: List<String>) {
    private val thoughts = ThoughtFilter()
    private val text = StringBuilder()
    private val refusal = StringBuilder()
    private var finishReason: String? = null
    private var promptTokens: Int? = null
    private var completionTokens: Int? = null
    private var model: String? = null
    private var id: String? = null
    private var reasoned = false

    /** Whether the model is at work: some of its text or thoughts came, or a refusal. */
    var begun = false
        private set

    val finished: Boolean get() = finishReason != null

    /** Reads a completion (its text is in `message`) or a piece of one (in `delta`); returns what it adds. */
    fun take(data: String, holder: String): String {
        val document = parsed(data) as? JsonObject ?: throw invalid("the answer is no JSON object")
        val choice = (document.get("choices") as? JsonArray)?.firstOrNull() as? JsonObject
        for (error in listOf(document.get("error"), choice?.get("error"))) {
            if (holdsAny(error)) throw reported(error, serverMessage(data, secrets))
        }
        val message = Message.of(choice?.get(holder))
        finishReason = stringOf(choice?.get("finish_reason"))?.ifEmpty { null } ?: finishReason
        val usage = document.get("usage") as? JsonObject
        promptTokens = countOf(usage?.get("prompt_tokens")) ?: promptTokens
        completionTokens = countOf(usage?.get("completion_tokens")) ?: completionTokens
        model = model ?: plainName(stringOf(document.get("model")), secrets)
        id = id ?: plainName(stringOf(document.get("id")), secrets)
        begun = begun || message.begun
        reasoned = reasoned || message.reasoned
        refusal.append(message.refusal)
        return thoughts.feed(message.text).also(text::append)
    }

    /** Returns what the end adds to the answer's text. */
    fun finish(): String = thoughts.finish().also(text::append)

    fun answer(cloud: CloudRef): CloudEvent.Answer {
        val named = cloud.copy(model = model, requestId = cloud.requestId ?: id)
        val spoken = afterUnopened(text.toString())
        val answer = CloudEvent.Answer(spoken, finishReason, promptTokens, completionTokens, named)
        if (spoken.isNotBlank()) return answer
        if (refusal.isNotBlank() || finishReason in WITHHELD) {
            val why = shown(refusal.toString(), secrets).ifEmpty { "withheld ($finishReason)" }
            return answer.copy(text = "", refusal = why)
        }
        if (reasoned || thoughts.thought || text.isNotBlank()) {
            throw invalid("the answer holds only reasoning (finish_reason $finishReason): allow it more tokens")
        }
        throw invalid("the answer holds no text")
    }
}

/** Returns a [HandoffException]'s reason for an HTTP status. */
internal fun failureReason(status: Int): String = mapOf(4 to "cloud_rejected", 5 to "cloud_error")[status / 100] ?: "cloud_invalid"

/** Returns an error that came with the status 200; its code is often the status it would have. */
private fun reported(error: JsonElement?, said: String): HandoffException {
    val code = ((error as? JsonObject)?.get("code") as? JsonPrimitive)?.asString?.toIntOrNull()
    if (code == null || code !in 400..599) return invalid("answered with an error$said")
    return HandoffException(failureReason(code), "cloud: answered with an error $code$said", status = code, sent = true)
}

/** Returns `: <message>` of an error body, in the forms servers use, or nothing. */
internal fun serverMessage(body: String, secrets: List<String>): String {
    val document = parsed(body) as? JsonObject ?: return ""
    val error = document.get("error")
    val messages = listOf((error as? JsonObject)?.get("message"), error, document.get("message"), document.get("detail"))
    val message = messages.mapNotNull(::stringOf).firstOrNull { it.isNotEmpty() } ?: return ""
    return ": " + shown(message, secrets)
}

/** Shortens foreign text to one printable line; withholds it where it repeats a secret's part. */
internal fun shown(text: String, secrets: List<String>): String {
    val line = oneLine(text.take(4 * QUOTED)).take(QUOTED + ECHO)
    for (secret in secrets.map(::oneLine)) {
        val size = minOf(ECHO, secret.length)
        if (size > 0 && line.windowed(size).any { it in secret }) {
            return "(message withheld: it repeats the question or the key)"
        }
    }
    return line.take(QUOTED)
}

/** Returns a server's name for something; null where there is none that may be shown. */
internal fun plainName(value: String?, secrets: List<String>): String? =
    value?.takeIf { it.isNotEmpty() && it == shown(it, secrets) }

internal fun invalid(what: String) = HandoffException("cloud_invalid", "cloud: $what", sent = true)

private fun parsed(text: String): JsonElement? =
    try {
        parseJson(text.trim())
    } catch (_: JsonException) {
        null
    }

internal fun stringOf(value: JsonElement?): String? =
    value?.takeIf { it.isJsonPrimitive && it.asJsonPrimitive.isString }?.asString

private fun countOf(value: JsonElement?): Int? =
    value?.takeIf { it.isJsonPrimitive && it.asJsonPrimitive.isNumber }?.asString?.toIntOrNull()?.takeIf { it >= 0 }

/** Returns the text with each run of unprintable characters and spaces as one space. */
private fun oneLine(text: String): String =
    text.map { if (it.isISOControl() || Character.getType(it) in UNPRINTABLE) ' ' else it }
        .joinToString("").split(' ').filter { it.isNotEmpty() }.joinToString(" ")

private val UNPRINTABLE = setOf(
    Character.FORMAT, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR,
    Character.PRIVATE_USE, Character.UNASSIGNED,
).map { it.toInt() }.toSet()
