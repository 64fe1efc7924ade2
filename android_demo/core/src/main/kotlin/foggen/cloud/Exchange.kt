package foggen.cloud

import foggen.json.compactJson
import foggen.json.jsonOf
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.trySendBlocking
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.Proxy
import java.net.URL
import java.util.concurrent.Executor
import java.util.zip.GZIPInputStream
import java.util.zip.InflaterInputStream

internal const val EVENTS = "text/event-stream"
internal const val DOCUMENT = "application/json"

/** Compressions that are undone where a server compresses although it was asked not to. */
internal val CODINGS = setOf("gzip", "x-gzip", "deflate")
private const val CHUNK_BYTES = 1 shl 13

/** What one request meets, in order. */
internal sealed interface Wire {
    /** The connection stands, and the question is about to leave. */
    object Sending : Wire

    /** The response's head. */
    class Head(val status: Int, val contentType: String, val coding: String, val headers: Map<String, String>) : Wire

    /** The next bytes of the body. */
    class Body(val bytes: ByteArray) : Wire

    /** The request failed, or nothing comes after it: [error] is null at the body's end. */
    class End(val error: IOException?) : Wire
}

/**
 * One request on a thread of its own.
 *
 * `HttpURLConnection` blocks and knows no limit for the whole. So whoever waits for it waits at the
 * channel, and walks away by [abandon]: the thread then ends at its next byte, at the latest when its
 * socket times out.
 */
internal class Exchange(private val cloud: Cloud, private val question: String, private val key: String) {
    val wire = Channel<Wire>(capacity = 16)

    @Volatile private var abandoned = false

    @Volatile private var connection: HttpURLConnection? = null

    fun start(threads: Executor) = threads.execute {
        val error = try {
            converse()
            null
        } catch (error: IOException) {
            error
        } catch (error: RuntimeException) { // the JDK raises some of its own at broken heads
            IOException("${error.javaClass.simpleName}: ${error.message}", error)
        }
        // The JDK keeps a connection its server does not call closed, and the next request may be lost
        // with it: it must be gone before anyone hears of the end.
        connection?.disconnect()
        wire.trySendBlocking(Wire.End(error))
    }

    /** Stops listening; closes the socket at once while no body is being read. */
    fun abandon(threads: Executor) {
        abandoned = true
        wire.cancel()
        // Disconnecting may wait for the read that is under way.
        threads.execute { connection?.disconnect() }
    }

    private fun converse() {
        val http = URL(cloud.completionsUrl).openConnection(Proxy.NO_PROXY) as HttpURLConnection
        connection = http
        val body = body()
        prepare(http, body.size)
        http.connect()
        if (!give(Wire.Sending)) return
        http.outputStream.use { it.write(body) }
        val status = http.responseCode
        if (status < 0) throw IOException("no HTTP response")
        val headers = http.headerFields.filterKeys { it != null }.map { (name, values) -> name.lowercase() to values.first() }.toMap()
        val kind = headers["content-type"].orEmpty().substringBefore(';').trim().lowercase()
        val coding = headers["content-encoding"].orEmpty().trim().lowercase().ifEmpty { "identity" }
        if (!give(Wire.Head(status, kind, coding, headers))) return
        val stream = if (status >= 400) http.errorStream else http.inputStream
        stream?.let { pump(plain(it, coding)) } // not closed here: the JDK cannot disconnect from what is closed already
    }

    private fun prepare(http: HttpURLConnection, length: Int) {
        http.requestMethod = "POST"
        http.doOutput = true
        http.instanceFollowRedirects = false
        http.connectTimeout = cloud.connectTimeoutMs.toInt()
        http.readTimeout = cloud.firstTokenTimeoutMs.toInt()
        // A body of known length is never sent a second time behind our back.
        http.setFixedLengthStreamingMode(length)
        http.setRequestProperty("Accept", EVENTS)
        http.setRequestProperty("Accept-Encoding", "identity")
        http.setRequestProperty("Connection", "close")
        http.setRequestProperty("Content-Type", "application/json")
        http.setRequestProperty("Idempotency-Key", key)
        http.setRequestProperty("User-Agent", "foggen")
        if (cloud.apiKey != null) http.setRequestProperty("Authorization", "Bearer ${cloud.apiKey}")
    }

    private fun plain(stream: InputStream, coding: String): InputStream = when (coding) {
        "gzip", "x-gzip" -> GZIPInputStream(stream)
        "deflate" -> InflaterInputStream(stream)
        else -> stream
    }

    private fun pump(stream: InputStream) {
        val chunk = ByteArray(CHUNK_BYTES)
        while (true) {
            val count = stream.read(chunk)
            if (count < 0 || !give(Wire.Body(chunk.copyOf(count)))) return
        }
    }

    private fun body(): ByteArray {
        val system = cloud.systemPrompt?.let { jsonOf("role" to "system", "content" to it) }
        val messages = listOfNotNull(system, jsonOf("role" to "user", "content" to question))
        val request = jsonOf(
            "model" to cloud.model,
            "messages" to messages,
            "stream" to true,
            "stream_options" to mapOf("include_usage" to true),
        )
        if (cloud.maxTokens != null) request.addProperty("max_tokens", cloud.maxTokens)
        return compactJson(request).toByteArray()
    }

    /** Hands something over; false if nobody listens any more. */
    private fun give(item: Wire): Boolean = !abandoned && wire.trySendBlocking(item).isSuccess
}
