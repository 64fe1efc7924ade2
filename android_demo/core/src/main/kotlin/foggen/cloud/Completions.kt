package foggen.cloud

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import foggen.HandoffException
import foggen.json.JsonException
import foggen.json.parseJson
import foggen.tokenizer.isText
import java.io.ByteArrayOutputStream

private const val QUOTED = 200 // characters of a server's message that are shown
private const val ECHO = 12 // characters in a row that count as repeating a secret
private const val LF = '\n'.code.toByte()
private const val CR = '\r'.code.toByte()

/** Takes server-sent events apart: gives the `data` of each. */
internal class EventReader {
    private val line = ByteArrayOutputStream()
    private val data = ArrayList<String>()
    private var afterCr = false

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
        val text = String(line.toByteArray(), Charsets.UTF_8)
        line.reset()
        if (text.startsWith("data:")) data += text.substring("data:".length)
        if (text.isNotEmpty() || data.isEmpty()) return null
        return data.joinToString("\n").also { data.clear() }
    }
}

/**
 * Reads a streamed chat completion as its bytes come; it is whole once `[DONE]` or a finish reason
 * was seen.
 *
 * @param secrets what no message may repeat: the question and the key
 */
internal class StreamReader(private val secrets: List<String>) {
    private val events = EventReader()
    private val text = StringBuilder()
    private var finishReason: String? = null
    private var promptTokens: Int? = null
    private var completionTokens: Int? = null

    /** Whether `[DONE]` was seen: nothing more will be read. */
    var done = false
        private set
    var model: String? = null
        private set
    var id: String? = null
        private set

    /** Returns the pieces of text that end within this chunk. */
    fun feed(chunk: ByteArray): List<String> = texts(events.feed(chunk))

    /** Returns what a stream that ends here still holds. */
    fun finish(): List<String> = texts(events.finish())

    /** Returns the whole answer, after the end. */
    fun answer(cloud: foggen.CloudRef): CloudEvent.Answer {
        if (!done && finishReason == null) throw invalid("the stream ended within the answer")
        if (text.isBlank()) throw invalid("the answer holds no text")
        return CloudEvent.Answer(text.toString(), finishReason, promptTokens, completionTokens, cloud)
    }

    private fun texts(events: List<String>): List<String> {
        val pieces = ArrayList<String>()
        for (data in events) {
            done = done || data.trim() == "[DONE]"
            if (done) break
            read(data)?.let { pieces += it }
        }
        return pieces
    }

    private fun read(data: String): String? {
        val document = parsed(data) as? JsonObject ?: throw invalid("the answer is no JSON object")
        if (isError(document.get("error"))) throw invalid("answered with an error${serverMessage(data, secrets)}")
        val choice = (document.get("choices") as? com.google.gson.JsonArray)?.firstOrNull() as? JsonObject
        val content = (choice?.get("delta") as? JsonObject)?.get("content")
        val piece = if (content == null || content.isJsonNull) "" else stringOf(content)
        if (piece == null || !isText(piece)) throw invalid("the answer's content is no valid text")
        finishReason = stringOf(choice?.get("finish_reason"))?.ifEmpty { null } ?: finishReason
        val usage = document.get("usage") as? JsonObject
        promptTokens = countOf(usage?.get("prompt_tokens")) ?: promptTokens
        completionTokens = countOf(usage?.get("completion_tokens")) ?: completionTokens
        model = plainName(stringOf(document.get("model")), secrets) ?: model
        id = plainName(stringOf(document.get("id")), secrets) ?: id
        text.append(piece)
        return piece.ifEmpty { null }
    }
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

private fun isError(value: JsonElement?): Boolean = when {
    value == null || value.isJsonNull -> false
    value.isJsonPrimitive -> value.asString !in setOf("", "false", "0")
    value.isJsonObject -> value.asJsonObject.size() > 0
    else -> !value.asJsonArray.isEmpty
}

private fun stringOf(value: JsonElement?): String? =
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
