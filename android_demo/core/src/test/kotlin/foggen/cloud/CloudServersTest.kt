package foggen.cloud

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import foggen.BundleRef
import foggen.HandoffException
import foggen.Result
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.InetSocketAddress
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger
import java.util.zip.DeflaterOutputStream
import java.util.zip.GZIPOutputStream

private const val QUESTION = "Which is larger? A) 3 B) 5"
private const val DOCUMENT_TEXT = """{"choices": [{"message": {"content": "It is B"}, "finish_reason": "stop"}]}"""
private const val STREAM_TEXT =
    "data: {\"choices\": [{\"delta\": {\"content\": \"It is B\"}, \"finish_reason\": \"stop\"}]}\n\ndata: [DONE]\n\n"

/** What real servers and the proxies before them send; the Python tests have the same cases. */
class CloudServersTest {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    private val requests = AtomicInteger()

    @AfterEach
    fun stop() = server.stop(0)

    private fun serve(handle: (HttpExchange) -> Unit): Cloud {
        server.executor = Executors.newCachedThreadPool()
        server.createContext("/") { exchange ->
            requests.incrementAndGet()
            exchange.requestBody.readBytes()
            try { handle(exchange) } catch (_: IOException) { Unit } finally { exchange.close() }
        }
        server.start()
        return Cloud("http://127.0.0.1:${server.address.port}/v1", "m", maxRetries = 0)
    }

    private fun serve(body: ByteArray, type: String? = "text/event-stream", coding: String? = null): Cloud = serve { exchange ->
        type?.let { exchange.responseHeaders.add("Content-Type", it) }
        coding?.let { exchange.responseHeaders.add("Content-Encoding", it) }
        exchange.sendResponseHeaders(200, body.size.toLong())
        exchange.responseBody.write(body)
    }

    private fun Cloud.with(firstTokenTimeoutMs: Long = 30_000, totalTimeoutMs: Long = 60_000, maxRetries: Int = 0) =
        Cloud(url, model, firstTokenTimeoutMs = firstTokenTimeoutMs, totalTimeoutMs = totalTimeoutMs, maxRetries = maxRetries)

    private fun ask(cloud: Cloud): CloudEvent.Answer {
        val events = runBlocking { CloudClient(cloud, draw = { 0.01 }).stream(QUESTION, "k").toList() }
        val answer = events.last() as CloudEvent.Answer
        assertEquals(answer.text, events.filterIsInstance<CloudEvent.Piece>().joinToString("") { it.text })
        return answer
    }

    private fun failure(cloud: Cloud): HandoffException = assertThrows(HandoffException::class.java) { ask(cloud) }

    private fun signed(answer: CloudEvent.Answer): Result =
        answer.signed(Result(0.5, "default", BundleRef("b", "h"), reason = "below_tau"), "$QUESTION\nA) 3\nB) 5")

    private fun delta(json: String, finish: String = "null") =
        "data: {\"choices\":[{\"delta\":$json,\"finish_reason\":$finish}]}\n\n"

    @ParameterizedTest
    @ValueSource(strings = ["reasoning_content", "reasoning"])
    fun `thoughts are no silence`(field: String) {
        val cloud = serve { exchange ->
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.sendResponseHeaders(200, 0)
            repeat(8) {
                exchange.responseBody.write(delta("""{"$field":"hm "}""").toByteArray())
                exchange.responseBody.flush()
                Thread.sleep(200)
            }
            exchange.responseBody.write(STREAM_TEXT.toByteArray())
        }
        assertEquals("It is B", ask(cloud.with(firstTokenTimeoutMs = 800)).text)
    }

    @Test
    fun `comments and empty events are silence before the first sign`() {
        val cloud = serve { exchange ->
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.sendResponseHeaders(200, 0)
            repeat(100) {
                exchange.responseBody.write(": keep-alive\n\ndata:\n\ndata: {}\n\n".toByteArray())
                exchange.responseBody.flush()
                Thread.sleep(50)
            }
        }
        val error = failure(cloud.with(firstTokenTimeoutMs = 400))
        assertEquals("cloud_timeout", error.reason)
        assertTrue("firstTokenTimeoutMs of 400" in error.message!!)
    }

    @ParameterizedTest
    @CsvSource(
        "'<think>The answer is A? No.</think>\n\nIt is B', 'It is B', B",
        "'Well. <think>The answer is A?</think> It is B', 'Well. <think>The answer is A?</think> It is B', B",
        "'It is B <think>or is the answer A', 'It is B <think>or is the answer A', B",
    )
    fun `thoughts at the beginning are no answer, and none has a letter`(text: String, answer: String, choice: String) {
        val pieces = text.map { delta("""{"content":"${it.toString().replace("\n", "\\n")}"}""") }
        val got = ask(serve((pieces.joinToString("") + "data: [DONE]\n\n").toByteArray()))
        assertEquals(answer, got.text)
        assertEquals(choice, signed(got).choice)
    }

    @Test
    fun `a block that the chat template opened ends at its tag`() {
        val cloud = serve((delta("""{"content":"The answer is A? No.\n</think>\n\nIt is B"}""") + "data: [DONE]\n\n").toByteArray())
        val got = runBlocking { CloudClient(cloud).stream(QUESTION, "k").toList() }.last() as CloudEvent.Answer
        assertEquals("It is B", got.text)
    }

    @Test
    fun `blocks are told apart however the text is cut`() {
        val cases = mapOf(
            "\n <think>\nB?\n</think>A" to "A", "<seed:think>B</seed:think>A" to "A", "[THINK]B[/THINK]A" to "A",
            "<think>B</think> <think>C</think>A" to "A", "<think>B, and" to "", "<thi" to "<thi", "  A\n" to "  A\n",
        )
        for ((text, answer) in cases) {
            for (cut in text.indices) {
                val filter = ThoughtFilter()
                assertEquals(answer, filter.feed(text.take(cut)) + filter.feed(text.drop(cut)) + filter.finish(), "$text $cut")
            }
        }
    }

    @Test
    fun `a stream reads the same wherever it is cut`() {
        val body = "\uFEFFdata: {\"choices\":[{\"delta\":{\"reasoning\":\"Не\"}}]}\r\n\r\ndata:\n\n" +
            delta("""{"content":"<think>C?</th"}""") + "data: \n\n" + delta("""{"content":"ink>\n"}""") +
            delta("""{"content":[{"type":"text","text":"It is "},{"type":"reference","reference_ids":[1]}]}""") +
            delta("""{"content":"A 🦊"}""", "\"stop\"") + "data: [DONE]\n\n"
        val bytes = body.toByteArray()
        for (cut in bytes.indices) {
            val reader = StreamReader(emptyList())
            val pieces = reader.feed(bytes.copyOf(cut)) + reader.feed(bytes.copyOfRange(cut, bytes.size)) + reader.finish()
            assertEquals("It is A 🦊", pieces.joinToString(""), "$cut")
        }
    }

    @Test
    fun `a byte order mark hides nothing`() {
        assertEquals("It is B", ask(serve("\uFEFF$STREAM_TEXT".toByteArray())).text)
    }

    @ParameterizedTest
    @ValueSource(ints = [408, 425, 429, 498, 500, 520, 521, 522, 523, 524, 529, 530])
    fun `what may pass is tried again`(status: Int) {
        val cloud = serve { exchange ->
            exchange.responseHeaders.add("Retry-After", "0")
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.sendResponseHeaders(if (requests.get() == 1) status else 200, 0)
            exchange.responseBody.write(STREAM_TEXT.toByteArray())
        }
        assertEquals(2, ask(cloud.with(maxRetries = 1)).cloud.attempts)
    }

    @ParameterizedTest
    @ValueSource(ints = [400, 404, 501, 505, 511, 526])
    fun `what would fail again is not`(status: Int) {
        val cloud = serve { it.sendResponseHeaders(status, -1) }
        assertEquals(status, failure(cloud.with(maxRetries = 1)).status)
        assertEquals(1, requests.get())
    }

    @ParameterizedTest
    @ValueSource(strings = ["gzip", "x-gzip", "deflate"])
    fun `a compressed answer is read although none was asked for`(coding: String) {
        assertEquals("It is B", ask(serve(compressed(STREAM_TEXT.toByteArray(), coding), coding = coding)).text)
    }

    @Test
    fun `a bomb is refused`() {
        val bomb = ByteArrayOutputStream()
        GZIPOutputStream(bomb).use { gzip -> repeat(64) { gzip.write(ByteArray(1 shl 20) { '\n'.code.toByte() }) } }
        val error = failure(serve(bomb.toByteArray(), coding = "gzip"))
        assertTrue("exceeds" in error.message!!, error.message)
    }

    @Test
    fun `an unknown compression is named, and a false one refused`() {
        assertTrue("(br)" in failure(serve(STREAM_TEXT.toByteArray(), coding = "br")).message!!)
        server.removeContext("/")
        server.createContext("/") { exchange ->
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.responseHeaders.add("Content-Encoding", "gzip")
            exchange.sendResponseHeaders(200, 0)
            exchange.responseBody.write(STREAM_TEXT.toByteArray())
            exchange.close()
        }
        assertEquals("cloud_invalid", failure(Cloud("http://127.0.0.1:${server.address.port}/v1", "m", maxRetries = 0)).reason)
    }

    private fun compressed(body: ByteArray, coding: String): ByteArray {
        val bytes = ByteArrayOutputStream()
        (if (coding == "deflate") DeflaterOutputStream(bytes) else GZIPOutputStream(bytes)).use { it.write(body) }
        return bytes.toByteArray()
    }

    @Test
    fun `without a content type the body is a stream`() = assertEquals("It is B", ask(serve(STREAM_TEXT.toByteArray(), null)).text)

    @Test
    fun `a server that cannot stream answers whole`() =
        assertEquals("It is B", ask(serve(DOCUMENT_TEXT.toByteArray(), "application/json; charset=utf-8")).text)

    @Test
    fun `a refusal has its words and no answer`() {
        val body = delta("""{"content":null,"refusal":"I cannot "}""") + delta("""{"refusal":"help."}""", "\"stop\"")
        val result = signed(ask(serve((body + "data: [DONE]\n\n").toByteArray())))
        assertNull(result.answer)
        assertEquals("cloud_refused", result.reason)
        assertEquals("cloud: refused to answer: I cannot help.", result.detail)
    }

    @Test
    fun `thoughts alone are no answer, and the message says what to do`() {
        val error = failure(serve(delta("""{"reasoning":"hm"}""", "\"length\"").toByteArray()))
        assertEquals("cloud_invalid", error.reason)
        assertTrue("only reasoning (finish_reason length): allow it more tokens" in error.message!!)
    }

    @Test
    fun `an error in place of an answer counts as the status it names`() {
        val error = failure(serve("data: {\"error\":{\"code\":503,\"message\":\"no provider\"}}\n\n".toByteArray()))
        assertEquals("cloud_error" to 503, error.reason to error.status)
    }

    @ParameterizedTest
    @CsvSource(
        "https://new.example/v2/chat/completions, 'to https://new.example/v2, and'",
        "https://user:pass@new.example:8443/login?token=abc#x, 'to https://new.example:8443/login, and'",
        "/v2/chat/completions, '/v2, and no redirect is followed'",
        "http://[, HTTP 307",
    )
    fun `a redirect says where to and what to do`(location: String, place: String) {
        val cloud = serve { exchange ->
            exchange.responseHeaders.add("Location", location)
            exchange.sendResponseHeaders(307, -1)
        }
        val error = failure(cloud)
        assertTrue(place in error.message!!, error.message)
        assertTrue("pass" !in error.message!! && "abc" !in error.message!!)
        assertEquals(1, requests.get())
    }
}
