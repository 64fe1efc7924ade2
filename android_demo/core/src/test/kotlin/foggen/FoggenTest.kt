package foggen

import foggen.bundle.ConfidenceKind
import foggen.cloud.CloudEvent
import foggen.cloud.Handoff
import foggen.json.JsonException
import foggen.outbox.Flusher
import foggen.outbox.Outbox
import foggen.support.ONE_THREAD
import foggen.support.TestData
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.file.Path

/** A cloud that answers in pieces, or fails after some of them. */
private class FakeCloud(var failure: HandoffException? = null, var piecesBefore: Int = 0) : Handoff {
    val asked = ArrayList<Pair<String, String>>()

    override fun stream(question: String, key: String): Flow<CloudEvent> = flow {
        asked += question to key
        repeat(piecesBefore) { emit(CloudEvent.Piece("part")) }
        failure?.let { throw it }
        emit(CloudEvent.Piece("The answer "))
        emit(CloudEvent.Piece("is B."))
        emit(CloudEvent.Answer("The answer is B.", "stop", 3, 4, CloudRef("http://cloud", "big", 1, "r1")))
    }
}

class FoggenTest {
    private lateinit var model: LocalModel
    private val cloud = FakeCloud()
    private val confident = trace("confident")
    private val doubtful = trace("below_tau")

    @BeforeEach
    fun open() {
        model = runBlocking { LocalModel.open(TestData.bundle("int4"), OpenOptions(ONE_THREAD)) }
    }

    @AfterEach
    fun close() = model.close()

    private fun trace(reason: String): String {
        val golden = TestData.json("golden/int4.json").asJsonObject.getAsJsonArray("traces").map { it.asJsonObject }
        val index = golden.first { it.get("route").asString == "auto" && it.getAsJsonObject("result").get("reason").asString == reason }
        val questions = TestData.json("golden/questions.json").asJsonObject.getAsJsonArray("questions")
        return questions[index.get("question").asInt].asJsonObject.get("question").asString
    }

    private fun ask(question: String, policy: Policy = Policy(), handoff: Handoff? = cloud, outbox: Outbox? = null, options: AskOptions = AskOptions()) =
        runBlocking { Foggen(model, Services(policy, handoff, outbox, newId = { "id-${cloud.asked.size}" })).ask(question, options) }

    @Test
    fun `a confident question is answered here, piece by piece`() = runBlocking {
        val events = Foggen(model, Services(handoff = cloud)).stream(confident).toList()
        val result = (events.last() as AskEvent.Finished).result
        assertEquals(Source.LOCAL, result.source)
        assertEquals("default", result.tauSource)
        assertNull((events.first() as AskEvent.Decided).result.answer)
        assertEquals(result.answer, events.filterIsInstance<AskEvent.Piece>().joinToString("") { it.text })
        assertTrue(cloud.asked.isEmpty())
        val timing = result.timingMs
        assertTrue(timing.tokenize!! <= timing.decision!! && timing.prefill!! <= timing.decision!! && timing.decision!! <= timing.total)
        assertEquals(1.0, result.levelProbabilities!!.sum(), 1e-9)
        val expected = result.levelProbabilities!!.zip(listOf(0.0, 0.25, 0.5, 0.75, 1.0)).sumOf { (share, level) -> share * level }
        assertEquals(expected, result.expectedConfidence!!, 1e-9)
    }

    @Test
    fun `below tau one pass is spent and the cloud answers`() {
        val result = ask(doubtful)
        assertEquals(Source.CLOUD, result.source)
        assertEquals("below_tau", result.reason)
        assertEquals("below_tau", result.deferral)
        assertEquals("B", result.choice)
        assertEquals(1, result.usage.forwardPasses)
        assertEquals(4, result.usage.cloudCompletionTokens)
        assertEquals(listOf(doubtful to result.id), cloud.asked)
        assertNotNull(result.timingMs.handoff)
    }

    @Test
    fun `routes keep to one side`() {
        val here = ask(doubtful, options = AskOptions(route = Route.LOCAL_ONLY))
        assertEquals(Source.LOCAL to "mode", here.source to here.reason)
        val there = ask(confident, Policy(route = Route.CLOUD_ONLY))
        assertEquals(Source.CLOUD to "mode", there.source to there.reason)
        assertEquals(0, there.usage.forwardPasses)
        assertEquals(1, cloud.asked.size)
    }

    @Test
    fun `tau comes from the call, else the policy, else the bundle`() {
        assertEquals(Source.LOCAL, ask(doubtful, Policy(tau = 0.0)).source)
        assertEquals("policy", ask(doubtful, Policy(tau = 0.0)).tauSource)
        val strict = ask(confident, Policy(tau = 0.0), options = AskOptions(tau = 1.0))
        assertEquals("call", strict.tauSource)
        assertThrows(ConfigException::class.java) { AskOptions(tau = 1.5) }
    }

    @Test
    fun `tau is compared with the confidence that the bundle names`() {
        val blank = ask(doubtful, options = AskOptions(route = Route.LOCAL_ONLY)).copy(confidence = 1.0, expectedConfidence = 0.25)
        assertEquals(1.0, blank.comparedConfidence)
        assertEquals(0.25, blank.copy(tauOn = ConfidenceKind.EXPECTED).comparedConfidence)
        assertEquals(0.0, blank.copy(tauOn = ConfidenceKind.EXPECTED, expectedConfidence = null).comparedConfidence)
        val json = blank.copy(tauOn = ConfidenceKind.EXPECTED).toJson()
        assertEquals(ConfidenceKind.EXPECTED, Result.of(json).tauOn)
        json.addProperty("tau_on", "median")
        assertThrows(JsonException::class.java) { Result.of(json) }
    }

    @Test
    fun `when the cloud fails, the policy says what happens`(@TempDir folder: Path) {
        cloud.failure = HandoffException("cloud_unreachable", "no network")
        val failed = ask(doubtful)
        assertEquals(Triple(Source.NONE, "cloud_unreachable", "below_tau"), Triple(failed.source, failed.reason, failed.deferral))
        val here = ask(doubtful, Policy(onUnreachable = OnUnreachable.ANSWER_LOCALLY))
        assertEquals(Triple(Source.LOCAL, "cloud_unreachable", "no network"), Triple(here.source, here.reason, here.detail))
        assertEquals(ask(doubtful, options = AskOptions(route = Route.LOCAL_ONLY)).answer, here.answer)
        cloud.piecesBefore = 1
        assertEquals(Source.NONE, ask(doubtful, Policy(onUnreachable = OnUnreachable.ANSWER_LOCALLY)).source)
        Outbox(folder.resolve("outbox"), maxEntries = 1).use { outbox ->
            assertEquals(Source.QUEUED, ask(doubtful, Policy(onUnreachable = OnUnreachable.QUEUE), outbox = outbox).source)
            assertEquals("outbox_full", ask(doubtful, Policy(onUnreachable = OnUnreachable.QUEUE), outbox = outbox).reason)
        }
        val none = ask(doubtful, Policy(onUnreachable = OnUnreachable.ANSWER_LOCALLY), handoff = null)
        assertEquals(Source.LOCAL to "no_cloud", none.source to none.reason)
        assertEquals("below_tau", ask(doubtful, handoff = null).reason)
    }

    @Test
    fun `in airplane mode questions are queued, and answered later`(@TempDir folder: Path) = runBlocking {
        val path = folder.resolve("outbox")
        cloud.failure = HandoffException("cloud_unreachable", "no network")
        val queued = Outbox(path).use { outbox ->
            val result = ask(doubtful, Policy(onUnreachable = OnUnreachable.QUEUE), outbox = outbox)
            assertEquals("cloud_unreachable", Flusher(outbox, cloud).flush(waiting = true).stopped)
            result
        }
        cloud.failure = null
        Outbox(path).use { outbox ->
            val report = Flusher(outbox, cloud).flush(waiting = true)
            assertEquals(1 to 0, report.answered to report.remaining)
            val entry = outbox.entries().single()
            assertEquals("The answer is B.", entry.result.answer)
            assertEquals(queued.copy(source = Source.CLOUD, answer = entry.result.answer).confidence, entry.result.confidence)
            assertEquals(setOf(queued.id), cloud.asked.map { it.second }.toSet())
        }
    }

    @Test
    fun `the next question is not touched by one that was cancelled`() = runBlocking {
        val foggen = Foggen(model)
        val expected = foggen.ask(confident)
        foggen.stream(confident).take(1).toList()
        val again = foggen.ask(confident)
        assertEquals(expected.levelProbabilities, again.levelProbabilities)
        assertEquals(expected.answer, again.answer)
    }

    @Test
    fun `letters may be restricted, long prompts and empty questions are turned away`() {
        val letter = ask(confident, options = AskOptions(choices = listOf("Z"), route = Route.LOCAL_ONLY, maxNewTokens = 4))
        assertEquals("Z", letter.answer!!.take(1))
        assertEquals("context_length", ask("word ".repeat(5000), handoff = null).reason)
        assertThrows(QuestionException::class.java) { ask(" ") }
        assertThrows(ConfigException::class.java) { AskOptions(choices = emptyList()) }
    }
}
