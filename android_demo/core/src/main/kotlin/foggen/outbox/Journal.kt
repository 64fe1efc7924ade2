package foggen.outbox

import foggen.OutboxException
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.channels.OverlappingFileLockException
import java.nio.file.Path
import java.util.zip.CRC32

/**
 * Lines of text that are only ever appended, each on the disk before [append] returns.
 *
 * A line is its CRC-32, a space and the text. What a power cut left unfinished at the end was never
 * promised to anybody, and is cut off at the next start.
 */
internal class Journal(path: Path) : AutoCloseable {
    private val file: RandomAccessFile
    private val where = path.toString()

    init {
        file = failing { RandomAccessFile(path.toFile(), "rw") }
        val locked = try {
            file.channel.tryLock() != null
        } catch (_: OverlappingFileLockException) {
            false
        } catch (error: IOException) {
            throw OutboxException("$where: cannot be locked: ${error.message}", cause = error)
        }
        if (!locked) {
            file.close()
            throw OutboxException("$where: is in use by another outbox")
        }
    }

    /**
     * Returns the lines, oldest first.
     *
     * @throws OutboxException a line before the last is damaged
     */
    fun read(): List<String> = failing {
        file.seek(0)
        val bytes = ByteArray(file.length().toInt()).also { file.readFully(it) }
        val lines = ArrayList<String>()
        var start = 0
        while (start < bytes.size) {
            val end = (start until bytes.size).firstOrNull { bytes[it] == LF } ?: bytes.size
            val text = textOf(String(bytes, start, end - start, Charsets.UTF_8))
            if (end == bytes.size || (text == null && end == bytes.size - 1)) break
            lines += text ?: throw OutboxException("$where: the line at byte $start is damaged")
            start = end + 1
        }
        file.setLength(start.toLong())
        lines
    }

    /** Adds lines in one write, and returns when they are on the disk. */
    fun append(lines: List<String>) = failing {
        val bytes = lines.joinToString("") { "%08x %s\n".format(checksum(it), it) }.toByteArray()
        val end = file.length()
        try {
            file.seek(end)
            file.write(bytes)
            file.fd.sync()
        } catch (error: IOException) {
            file.setLength(end)
            throw error
        }
    }

    override fun close() = file.close()

    private fun <T> failing(work: () -> T): T =
        try {
            work()
        } catch (error: IOException) {
            throw OutboxException("$where: ${error.message}", cause = error)
        }

    companion object {
        private const val LF = '\n'.code.toByte()

        /** Returns a line's text, or null if it is not what was written. */
        private fun textOf(line: String): String? {
            val text = line.drop(9)
            return text.takeIf { line.length >= 9 && line.take(8).toLongOrNull(16) == checksum(text) && line[8] == ' ' }
        }

        private fun checksum(text: String): Long = CRC32().apply { update(text.toByteArray()) }.value
    }
}
