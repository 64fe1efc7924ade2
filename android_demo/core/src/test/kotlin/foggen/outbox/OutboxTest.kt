package foggen.outbox

import foggen.BundleRef
import foggen.HandoffException
import foggen.OutboxException
import foggen.Result
import foggen.Source
import foggen.cloud.Handoff
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.file.Files
import java.nio.file.Path

class OutboxTest {
    @TempDir
    lateinit var folder: Path

    private val path get() = folder.resolve("outbox.journal")

    private fun result(id: String) = Result(0.5, "default", BundleRef("b", "h"), id = id, source = Source.QUEUED, reason = "cloud_unreachable")

    private fun filled(count: Int) = runBlocking {
        Outbox(path).use { outbox -> repeat(count) { outbox.accept("Сұрақ $it\n", result("q-$it")) } }
    }

    @Test
    fun `entries, answers and failures are there after a restart`() = runBlocking {
        filled(3)
        Outbox(path, clockMs = { 1_000 }).use {
            assertTrue(it.answer("q-1", result("q-1").copy(source = Source.CLOUD, answer = "B")))
            assertFalse(it.answer("q-1", result("q-1").copy(answer = "C")))
            it.putBack("q-2", "cloud_timeout", 9_000)
            assertFalse(it.answer("other", result("other")))
        }
        Outbox(path).use { outbox ->
            val (first, second, third) = outbox.entries()
            assertEquals("Сұрақ 0\n", first.question)
            assertEquals("B" to true, second.result.answer to second.answered)
            assertEquals(Triple(1, 9_000L, "cloud_timeout"), Triple(third.attempts, third.notBeforeMs, third.lastReason))
            outbox.purge()
            assertEquals(listOf("q-0", "q-2"), outbox.entries().map { it.id })
            outbox.accept("again", result("q-3"))
        }
        Outbox(path).use { outbox ->
            assertEquals(listOf("q-0", "q-2", "q-3"), outbox.entries().map { it.id })
            assertEquals(1, outbox.entries()[1].attempts)
        }
    }

    @Test
    fun `whatever a power cut leaves of the last line, what was accepted is there`() = runBlocking {
        filled(2)
        val kept = Files.size(path).toInt()
        Outbox(path).use { it.accept("third", result("q-2")) }
        val whole = Files.readAllBytes(path)
        for (length in kept until whole.size) {
            Files.write(path, whole.copyOf(length))
            Outbox(path).use { outbox ->
                assertEquals(listOf("q-0", "q-1"), outbox.entries().map { it.id }, "cut at $length")
                if (length % 50 == 0) outbox.accept("fourth", result("q-3"))
            }
            if (length % 50 == 0) Outbox(path).use { assertEquals(3, it.entries().size) }
        }
        // Pages of zeros, as some file systems leave them.
        Files.write(path, whole.copyOf(kept) + ByteArray(100))
        Outbox(path).use { assertEquals(2, it.entries().size) }
    }

    @Test
    fun `damage before the end is said, not passed over`() {
        filled(3)
        val bytes = Files.readAllBytes(path)
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        Files.write(path, bytes)
        assertTrue("damaged" in assertThrows(OutboxException::class.java) { Outbox(path) }.message!!)
    }

    @Test
    fun `there is one writer, a limit, and no id twice`() = runBlocking {
        Outbox(path, maxEntries = 2).use { outbox ->
            assertThrows(OutboxException::class.java) { Outbox(path) }
            outbox.accept("a", result("1"))
            assertThrows(OutboxException::class.java) { runBlocking { outbox.accept("b", result("1")) } }
            outbox.accept("b", result("2"))
            val full = assertThrows(OutboxException::class.java) { runBlocking { outbox.accept("c", result("3")) } }
            assertEquals("outbox_full", full.reason)
        }
        assertThrows(OutboxException::class.java) { Outbox(folder.resolve("no/such/folder/outbox")) }
        Unit
    }

    @Test
    fun `a flush stops where the next entry would fail too, and waits longer each time`() = runBlocking {
        filled(5)
        var asked = 0
        var failure = HandoffException("cloud_unreachable", "no network")
        val failing = Handoff { _, _ -> flow { asked++; throw failure } }
        var now = 1_000_000L
        Outbox(path).use { outbox ->
            val flusher = Flusher(outbox, failing, { now }, draw = { 1.0 })
            assertEquals(FlushReport(failed = 1, remaining = 5, stopped = "cloud_unreachable"), flusher.flush())
            assertEquals(1, asked)
            assertEquals(now + 5_000, outbox.entries()[0].notBeforeMs)
            failure = HandoffException("cloud_invalid", "no answer", status = 200)
            assertEquals("cloud_invalid", flusher.flush().stopped)
            assertEquals(4, asked) // three in a row; the first entry is not due
            assertEquals(listOf(1, 1, 1, 1, 0), outbox.entries().map { it.attempts })
            now += 5_000
            failure = HandoffException("cloud_rejected", "slow down", retryAfterMs = 60_000, status = 429)
            assertEquals(60_000L, flusher.flush().retryAfterMs)
            assertEquals(now + 60_000, outbox.entries()[0].notBeforeMs)
            now -= 1_000_000_000 // the clock was set back: nothing waits for longer than an hour
            assertEquals(1, flusher.flush().failed)
        }
    }
}
