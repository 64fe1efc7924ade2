package foggen.cloud

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import foggen.ConfigException
import foggen.HandoffException
import foggen.QuestionException
import foggen.json.parseJson
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.IOException
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.ServerSocket
import java.net.Socket
import java.net.SocketException
import java.time.Instant
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread

private const val EVENTS =
    ": hello\r\n\r\ndata: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"Жа\"}}]}\r\n\r\n" +
        "data:{\"choices\":[{\"delta\":{\"content\":\"уап\"},\"finish_reason\":\"stop\"}]}\n\n" +
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n"

class CloudClientTest {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    @Volatile private var received: Triple<String, Map<String, String>, String>? = null

    private fun serve(handle: (HttpExchange) -> Unit): String {
        server.executor = Executors.newCachedThreadPool()
        server.createContext("/") { exchange ->
            val headers = exchange.requestHeaders.map { (name, values) -> name.lowercase() to values.joinToString() }.toMap()
            received = Triple(exchange.requestURI.path, headers, String(exchange.requestBody.readBytes()))
            exchange.use(handle)
        }
        server.start()
        return "http://127.0.0.1:${server.address.port}/v1"
    }

    private fun HttpExchange.use(work: (HttpExchange) -> Unit) = try { work(this) } finally { close() }

    private fun reply(exchange: HttpExchange, body: ByteArray, status: Int = 200, type: String = "text/event-stream") {
        exchange.responseHeaders.add("Content-Type", type)
        exchange.sendResponseHeaders(status, body.size.toLong())
        exchange.responseBody.write(body)
    }

    @AfterEach
    fun stop() = server.stop(0)

    @Test
    fun `exactly the user's message leaves the device`() {
        val url = serve { reply(it, EVENTS.toByteArray()) }
        val cloud = Cloud(url, "m", apiKey = "key", systemPrompt = "Қысқа.", maxTokens = 5)
        val answer = runBlocking { CloudClient(cloud).stream("Неге? \"\u2028", "key-1").toList() }.last() as CloudEvent.Answer
        assertEquals("Жауап", answer.text)
        assertEquals(listOf(3, 2), listOf(answer.promptTokens, answer.completionTokens))
        val (path, headers, body) = received!!
        assertEquals("/v1/chat/completions", path)
        assertEquals("Bearer key", headers["authorization"])
        assertEquals("key-1", headers["idempotency-key"])
        assertEquals(
            setOf("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "idempotency-key", "user-agent"),
            headers.keys,
        )
        val expected = """{"model":"m","messages":[{"role":"system","content":"Қысқа."},{"role":"user","content":"Неге? \"\u2028"}],
            "stream":true,"stream_options":{"include_usage":true},"max_tokens":5}"""
        assertEquals(parseJson(expected), parseJson(body))
    }

    @Test
    fun `a server that repeats the question or the key is not quoted`() {
        val url = serve { reply(it, """{"error":{"message":"bad key sk-secret-secret for tell me a secret story"}}""".toByteArray(), 403, "application/json") }
        val cloud = Cloud(url, "m", apiKey = "sk-secret-secret")
        val error = assertThrows(HandoffException::class.java) { runBlocking { CloudClient(cloud).stream("tell me a secret story", "k").toList() } }
        assertEquals("cloud_rejected" to 403, error.reason to error.status)
        assertTrue("secret" !in error.message!!)
        assertTrue("withheld" in error.message!!)
        val harmless = assertThrows(HandoffException::class.java) { runBlocking { CloudClient(Cloud(url, "m")).stream("q?", "k").toList() } }
        assertTrue("HTTP 403: bad key sk-secret" in harmless.message!!)
    }

    @Test
    fun `redirects are not followed, cut and huge answers are refused`() {
        val bodies = mapOf("/huge/v1" to ByteArray(9 shl 20) { '\n'.code.toByte() }, "/cut/v1" to EVENTS.substringBefore("data: {\"choices\":[],").replace("stop", "").toByteArray())
        val url = serve { exchange ->
            val base = exchange.requestURI.path.removeSuffix("/chat/completions")
            if (base == "/away/v1") {
                exchange.responseHeaders.add("Location", "http://127.0.0.1:1/")
                exchange.sendResponseHeaders(302, -1)
            } else {
                try { reply(exchange, bodies.getValue(base)) } catch (_: IOException) { return@serve }
            }
        }
        for (name in listOf("away", "huge", "cut")) {
            val cloud = Cloud(url.replace("/v1", "/$name/v1"), "m")
            val error = assertThrows(HandoffException::class.java, { runBlocking { CloudClient(cloud).stream("q", "k").toList() } }, name)
            assertEquals("cloud_invalid", error.reason, name)
        }
    }

    @Test
    fun `whoever stops listening closes the connection`() {
        val closed = CountDownLatch(1)
        val url = serve { exchange ->
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.sendResponseHeaders(200, 0)
            try {
                while (true) {
                    exchange.responseBody.write(EVENTS.substringBefore("data:{").toByteArray())
                    exchange.responseBody.flush()
                    Thread.sleep(20)
                }
            } catch (_: IOException) {
                closed.countDown()
            }
        }
        val client = CloudClient(Cloud(url, "m"))
        runBlocking { assertEquals(CloudEvent.Piece("Жа"), client.stream("q", "k").first()) }
        assertTrue(closed.await(5, TimeUnit.SECONDS))
        assertEquals(BreakerState.Closed(0), client.breaker.state)
    }

    @Test
    fun `a server that keeps failing is left alone, then probed`() = runBlocking {
        val status = AtomicInteger(500)
        val requests = AtomicInteger()
        val url = serve { requests.incrementAndGet(); reply(it, EVENTS.toByteArray(), status.get()) }
        val client = CloudClient(Cloud(url, "m", maxRetries = 0, breakerFailures = 2, breakerCooldownMs = 300))
        repeat(2) { assertThrows(HandoffException::class.java) { runBlocking { client.stream("q", "k").toList() } } }
        assertTrue(client.breaker.state is BreakerState.Open)
        val refused = assertThrows(HandoffException::class.java) { runBlocking { client.stream("q", "k").toList() } }
        assertEquals("cloud_unreachable" to false, refused.reason to refused.sent)
        assertEquals(2, requests.get())
        status.set(200)
        delay(350)
        client.stream("q", "k").toList()
        assertEquals(BreakerState.Closed(0), client.breaker.state)
    }

    @Test
    fun `no connection is kept, not even one that its server would keep`() {
        val connections = AtomicInteger()
        ServerSocket(0, 50, InetAddress.getLoopbackAddress()).use { keeping ->
            thread(isDaemon = true) {
                while (true) {
                    val socket = try { keeping.accept() } catch (_: SocketException) { return@thread }
                    connections.incrementAndGet()
                    thread(isDaemon = true) { socket.use(::refuseEveryRequest) }
                }
            }
            val client = CloudClient(Cloud("http://127.0.0.1:${keeping.localPort}/v1", "m", maxRetries = 0, breakerFailures = 100))
            repeat(20) {
                val error = assertThrows(HandoffException::class.java) { runBlocking { client.stream("q", "k").toList() } }
                assertEquals(503, error.status, error.message)
            }
        }
        assertEquals(20, connections.get())
    }

    private fun refuseEveryRequest(socket: Socket) {
        val received = socket.getInputStream().buffered()
        while (true) {
            val head = StringBuilder()
            while (!head.endsWith("\r\n\r\n")) head.append(received.read().also { if (it < 0) return }.toChar())
            received.readNBytes(Regex("(?i)content-length: (\\d+)").find(head)!!.groupValues[1].toInt())
            socket.getOutputStream().write("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}".toByteArray())
        }
    }

    @Test
    fun `a breaker lets one probe through`() {
        var now = 0L
        val breaker = Breaker(1, 100) { now }
        breaker.enter()
        breaker.leave(false)
        now = 100
        breaker.enter()
        assertEquals(BreakerState.HalfOpen(1), breaker.state)
        assertThrows(HandoffException::class.java) { breaker.enter() }
        breaker.leave(false)
        assertEquals(BreakerState.Open(200, 2), breaker.state)
        now = 200
        breaker.enter()
        breaker.leave(null)
        breaker.enter()
        breaker.leave(true)
        assertEquals(BreakerState.Closed(0), breaker.state)
    }

    @Test
    fun `Retry-After is read in both forms`() {
        val now = Instant.parse("2026-01-01T00:00:00Z")
        assertEquals(7_000L, retryAfterMs(mapOf("retry-after" to " 7 "), now))
        assertEquals(5_000L, retryAfterMs(mapOf("retry-after" to "Thu, 01 Jan 2026 00:00:05 GMT"), now))
        assertEquals(2_000L, retryAfterMs(mapOf("retry-after" to "Thu, 01 Jan 2026 00:00:05 GMT", "date" to "Thu, 01 Jan 2026 00:00:03 GMT"), now))
        assertEquals(0L, retryAfterMs(mapOf("retry-after" to "Thu, 01 Jan 2015 00:00:05 GMT"), now))
        assertEquals(86_400_000L, retryAfterMs(mapOf("retry-after" to "9".repeat(30)), now))
        assertNull(retryAfterMs(mapOf("retry-after" to "soon"), now))
        assertNull(retryAfterMs(emptyMap(), now))
    }

    @Test
    fun `events are the same wherever the bytes are cut`() {
        val bytes = EVENTS.toByteArray()
        for (size in listOf(1, 2, 3, 7, bytes.size)) {
            val reader = EventReader()
            val events = bytes.toList().chunked(size).flatMap { reader.feed(it.toByteArray()) } + reader.finish()
            assertEquals(4, events.size, "$size")
            assertEquals(" [DONE]", events.last())
        }
    }

    @Test
    fun `endpoints and questions are checked`() {
        for (url in listOf("ftp://host/v1", "http://", "nonsense", "http://user:pass@host/v1", "http://host/v1?key=1", "http://host:99999/")) {
            val error = assertThrows(ConfigException::class.java, { Cloud(url, "m") }, url)
            assertTrue("pass" !in error.message!!)
        }
        assertThrows(ConfigException::class.java) { Cloud("http://host", " ") }
        assertThrows(ConfigException::class.java) { Cloud("http://host", "m", apiKey = "a b") }
        assertThrows(ConfigException::class.java) { Cloud("http://host", "m", totalTimeoutMs = 0) }
        assertEquals("https://host/v1/chat/completions", Cloud("https://host/v1/chat/completions", "m").completionsUrl)
        assertThrows(QuestionException::class.java) { runBlocking { CloudClient(Cloud("http://127.0.0.1:1", "m")).stream("\ud800", "k").toList() } }
    }
}
