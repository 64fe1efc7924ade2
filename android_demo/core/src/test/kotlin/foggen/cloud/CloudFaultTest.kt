package foggen.cloud

import foggen.BundleRef
import foggen.HandoffException
import foggen.Result
import foggen.outbox.Flusher
import foggen.outbox.Outbox
import foggen.support.FaultServer
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource
import java.nio.file.Path
import java.util.UUID

private const val QUESTION = "Қазақстанның астанасы қай қала? 🦊\n A. Астана \"B\""
private const val LIMIT_MS = 600L

/** The client against the fault server of the Python tests. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class CloudFaultTest {
    private lateinit var server: FaultServer

    @BeforeAll
    fun start() {
        server = FaultServer()
    }

    @AfterAll
    fun stop() {
        if (::server.isInitialized) server.close()
    }

    /** After a refusal the port refuses everybody for a moment. */
    @AfterEach
    fun awaitServer() = server.await()

    private fun cloud(url: String, retries: Int = 0, totalMs: Long = 2_000) = Cloud(
        url, "fault-model", apiKey = "sk-0123456789abcdef", connectTimeoutMs = LIMIT_MS,
        firstTokenTimeoutMs = LIMIT_MS, totalTimeoutMs = totalMs, maxRetries = retries,
    )

    private fun ask(cloud: Cloud, key: String = UUID.randomUUID().toString()): List<CloudEvent> =
        runBlocking { CloudClient(cloud, draw = { 0.1 }).stream(QUESTION, key).toList() }

    @Test
    fun `an answer comes in pieces that make the whole`() {
        val events = ask(cloud(server.always("none")))
        val answer = events.last() as CloudEvent.Answer
        assertEquals(answer.text, events.filterIsInstance<CloudEvent.Piece>().joinToString("") { it.text })
        assertTrue(answer.text.startsWith("B. Call "))
        assertTrue(events.size > 3)
        assertEquals("stop", answer.finishReason)
        assertEquals(QUESTION.codePointCount(0, QUESTION.length), answer.promptTokens)
        assertEquals("fault-model", answer.cloud.model)
    }

    @ParameterizedTest
    @CsvSource(
        "refuse, cloud_unreachable", "hang_before_headers, cloud_timeout", "hang_mid_stream, cloud_timeout",
        "half_chunk, cloud_invalid", "invalid_json, cloud_invalid", "retry_after_seconds, cloud_rejected",
        "retry_after_date, cloud_rejected", "server_error, cloud_error", "bad_gateway, cloud_error",
        "unavailable, cloud_error", "wrong_content_type, cloud_invalid", "error_body, cloud_invalid", "slow_drip, cloud_timeout",
    )
    fun `every fault is named, in time, and repeats neither question nor key`(fault: String, reason: String) {
        val started = System.nanoTime()
        val error = assertThrows(HandoffException::class.java) { ask(cloud(server.always(fault), totalMs = 1_500)) }
        val ms = (System.nanoTime() - started) / 1e6
        assertEquals(reason, error.reason, error.message)
        assertTrue(ms < 1.1 * LIMIT_MS + 500, "took $ms ms") // half a second for starting threads on a busy machine
        assertTrue("Қазақстанның" !in error.message!! && "sk-0123" !in error.message!!)
        if (fault.startsWith("retry_after")) assertEquals(1_000L, error.retryAfterMs)
    }

    @ParameterizedTest
    @ValueSource(strings = ["retry_after_seconds", "retry_after_date", "server_error", "bad_gateway", "unavailable"])
    fun `what is safe to retry is asked again, after the wait the server wants`(fault: String) {
        val started = System.nanoTime()
        val answer = ask(cloud(server.once(fault), retries = 2, totalMs = 8_000)).last() as CloudEvent.Answer
        assertEquals(2, answer.cloud.attempts)
        if (fault.startsWith("retry_after")) assertTrue((System.nanoTime() - started) / 1e6 >= 900)
    }

    @ParameterizedTest
    @ValueSource(strings = ["hang_before_headers", "half_chunk", "invalid_json", "slow_drip"])
    fun `what may be under way still is not asked again`(fault: String) {
        val key = UUID.randomUUID().toString()
        assertThrows(HandoffException::class.java) { ask(cloud(server.once(fault), retries = 2), key) }
        val again = ask(cloud(server.once(fault)), key).last() as CloudEvent.Answer
        assertEquals(1, again.cloud.attempts)
    }

    @Test
    fun `nobody at the port, and a name that does not exist`() {
        for (url in listOf("http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1")) {
            assertEquals("cloud_unreachable", assertThrows(HandoffException::class.java) { ask(cloud(url)) }.reason)
        }
    }

    @Test
    fun `an outbox is flushed through thirty percent of faults, each answer stored once`(@TempDir folder: Path) = runBlocking {
        val client = CloudClient(
            Cloud(server.drawn, "fault-model", connectTimeoutMs = 500, firstTokenTimeoutMs = 150, totalTimeoutMs = 400, breakerFailures = 1_000),
        )
        Outbox(folder.resolve("outbox")).use { outbox ->
            repeat(100) { outbox.accept("Question $it?", Result(0.5, "default", BundleRef("b", "h"), id = "q-$it", reason = "cloud_unreachable")) }
            val flusher = Flusher(outbox, client)
            var rounds = 0
            var answered = 0
            do {
                answered += flusher.flush(waiting = true).answered
            } while (outbox.entries().any { !it.answered } && ++rounds < 200)
            assertEquals(100, answered)
            val calls = server.stats().getAsJsonObject("calls")
            for (entry in outbox.entries()) {
                assertTrue(entry.answered, entry.id)
                assertEquals(1, calls.get(entry.id).asInt, "upstream calls of ${entry.id}")
            }
            assertTrue(server.stats().getAsJsonObject("faults").size() >= 8)
        }
    }
}
