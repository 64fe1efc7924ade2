package foggen.outbox

import com.google.gson.JsonObject
import foggen.OutboxException
import foggen.Result
import foggen.json.Fields
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.jsonOf
import foggen.json.parseJson
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption

/**
 * A question in the outbox.
 *
 * @property id the idempotency key, and the result's id
 * @property attempts deliveries that failed
 * @property notBeforeMs when to try again, in milliseconds since 1970
 * @property lastReason why the last delivery failed
 * @property result the question's result: `queued`, and once answered the cloud's
 * @property answered whether the answer is there
 */
data class Entry(
    val id: String,
    val acceptedAtMs: Long,
    val question: String,
    val result: Result,
    val attempts: Int = 0,
    val notBeforeMs: Long = 0,
    val lastReason: String? = null,
    val answered: Boolean = false,
)

/**
 * Questions that wait for the cloud, in an append-only journal that survives a killed process.
 *
 * An entry is accepted once [accept] has returned, and answered once [answer] has. Deliveries may
 * repeat (after a crash); they carry the entry's id as idempotency key, and only the first answer is
 * stored.
 *
 * @param maxEntries the most entries, answered ones included; more questions are refused
 * @param clockMs milliseconds since 1970
 */
class Outbox(
    private val path: Path,
    private val maxEntries: Int = 10_000,
    private val clockMs: () -> Long = System::currentTimeMillis,
) : AutoCloseable {
    private val turn = Mutex()
    private val byId = LinkedHashMap<String, Entry>()
    private var journal = Journal(path)

    init {
        try {
            for (line in journal.read()) replay(line)
        } catch (error: JsonException) {
            journal.close()
            throw OutboxException("$path: ${error.message}", cause = error)
        }
    }

    /** Returns the entries, oldest first. */
    suspend fun entries(): List<Entry> = turn.withLock { byId.values.toList() }

    /**
     * Takes in a question; when this returns it is on the disk.
     *
     * @throws OutboxException there is no room, or the file cannot be written; nothing was changed
     */
    suspend fun accept(question: String, result: Result) = turn.withLock {
        if (byId.size >= maxEntries) {
            throw OutboxException("outbox: holds $maxEntries entries; purge the answered ones, or flush", "outbox_full")
        }
        if (result.id in byId) throw OutboxException("outbox: id: must be new, is '${result.id}'")
        store(Entry(result.id, clockMs(), question, result, lastReason = result.reason), ACCEPT)
    }

    /** Stores the answer, and returns whether it is the first one. */
    suspend fun answer(id: String, result: Result): Boolean = turn.withLock {
        val entry = byId[id]
        if (entry == null || entry.answered) return@withLock false
        store(entry.copy(result = result, answered = true, lastReason = null), ANSWER)
        true
    }

    /** Notes that a delivery failed, and when to try again. */
    suspend fun putBack(id: String, reason: String, notBeforeMs: Long) = turn.withLock {
        val entry = byId[id]
        if (entry != null && !entry.answered) {
            store(entry.copy(attempts = entry.attempts + 1, notBeforeMs = notBeforeMs, lastReason = reason), PUT_BACK)
        }
    }

    /** Forgets the answered entries: the journal is written anew and moved into place. */
    suspend fun purge() = turn.withLock {
        val waiting = byId.values.filter { !it.answered }
        val fresh = path.resolveSibling("${path.fileName}.new")
        try {
            Files.deleteIfExists(fresh)
            Journal(fresh).use { new -> new.append(waiting.map { line(it, ACCEPT) }) }
            journal.close()
            Files.move(fresh, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
        } catch (error: IOException) {
            throw OutboxException("$path: cannot be purged: ${error.message}", cause = error)
        } finally {
            journal = Journal(path)
        }
        byId.values.removeAll { it.answered }
    }

    override fun close() = journal.close()

    private fun store(entry: Entry, kind: String) {
        journal.append(listOf(line(entry, kind)))
        byId[entry.id] = entry
    }

    private fun line(entry: Entry, kind: String): String {
        val json = jsonOf("kind" to kind, "id" to entry.id, "at" to clockMs())
        when (kind) {
            ACCEPT -> {
                json.addProperty("accepted_at", entry.acceptedAtMs)
                json.addProperty("question", entry.question)
                json.add("result", entry.result.toJson())
                putState(json, entry)
            }
            ANSWER -> json.add("result", entry.result.toJson())
            else -> putState(json, entry)
        }
        return compactJson(json)
    }

    private fun putState(json: JsonObject, entry: Entry) {
        json.addProperty("attempts", entry.attempts)
        json.addProperty("not_before", entry.notBeforeMs)
        json.addProperty("last_reason", entry.lastReason)
    }

    private fun replay(line: String) {
        val json = parseJson(line)
        val fields = Fields(json, "journal")
        val id = fields.string("id")
        val kind = fields.string("kind")
        fun result() = Result.of(json.asJsonObject.getAsJsonObject("result") ?: throw JsonException("journal: result is missing"))
        if (kind == ACCEPT) {
            byId[id] = withState(Entry(id, fields.long("accepted_at"), fields.string("question"), result()), fields)
            return
        }
        val entry = byId[id] ?: throw JsonException("journal: id: no entry '$id'")
        byId[id] = when (kind) {
            ANSWER -> entry.copy(result = result(), answered = true, lastReason = null)
            PUT_BACK -> withState(entry, fields)
            else -> throw JsonException("journal: kind: this version knows no '$kind'")
        }
    }

    private fun withState(entry: Entry, fields: Fields) = entry.copy(
        attempts = fields.int("attempts"),
        notBeforeMs = fields.long("not_before"),
        lastReason = fields.optionalString("last_reason"),
    )

    private companion object {
        const val ACCEPT = "accept"
        const val ANSWER = "answer"
        const val PUT_BACK = "put_back"
    }
}
