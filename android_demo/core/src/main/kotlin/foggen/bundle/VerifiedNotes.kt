package foggen.bundle

import com.google.gson.JsonElement
import foggen.json.compactJson
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.attribute.BasicFileAttributes
import java.nio.file.attribute.FileTime
import java.util.concurrent.TimeUnit

/**
 * Notes that files were right, kept where whoever hands out a bundle cannot write.
 *
 * A note stands for the very files that were hashed: device, inode, size and times of change. It
 * stays true when their directory is moved, and for no copy of them.
 *
 * @param directory nobody else may write to it; null keeps no notes, and every use hashes again
 */
internal class VerifiedNotes(private val directory: Path?) {
    fun holds(state: JsonElement): Boolean {
        val text = compactJson(state, sorted = true)
        return try {
            directory != null && Files.readAllBytes(noteOf(directory, text)).contentEquals(text.toByteArray())
        } catch (_: IOException) {
            false
        }
    }

    fun keep(state: JsonElement) {
        val text = compactJson(state, sorted = true)
        try {
            if (directory != null) writeAtomically(noteOf(Files.createDirectories(directory), text), text.toByteArray())
        } catch (_: IOException) {
            return
        }
    }

    private fun noteOf(directory: Path, text: String): Path = directory.resolve(sha256(text.toByteArray()) + ".json")
}

/** Returns what changes whenever a file is written to or replaced. */
internal fun fileState(path: Path): List<Any> =
    try {
        val found = Files.readAttributes(path, "unix:dev,ino,size,lastModifiedTime,ctime")
        listOf("dev", "ino", "size").map { found.getValue(it) as Number } +
            listOf("lastModifiedTime", "ctime").map { nanoseconds(found.getValue(it) as FileTime) }
    } catch (_: UnsupportedOperationException) {
        basicState(path)
    } catch (_: IllegalArgumentException) {
        basicState(path)
    }

private fun basicState(path: Path): List<Any> {
    val found = Files.readAttributes(path, BasicFileAttributes::class.java)
    return listOf(found.fileKey().toString(), found.size(), nanoseconds(found.lastModifiedTime()))
}

private fun nanoseconds(time: FileTime): Long = time.to(TimeUnit.NANOSECONDS)
