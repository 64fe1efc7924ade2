package foggen.app.install

import foggen.BundleException
import foggen.bundle.Bundle
import foggen.bundle.FileInfo
import foggen.bundle.MANIFEST_FILE
import foggen.bundle.Manifest
import foggen.bundle.readManifest
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import java.io.ByteArrayOutputStream
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.security.MessageDigest

private const val MAX_MANIFEST_BYTES = 4 shl 20
private const val CHUNK_BYTES = 1 shl 16
private const val SPARE_BYTES = 16L shl 20

/** How far an install is, in bytes of the whole bundle. */
sealed interface InstallProgress {
    data class Fetching(val file: String, val done: Long, val total: Long) : InstallProgress

    data class Checking(val done: Long, val total: Long) : InstallProgress
}

/**
 * How often and how soon a source that failed is asked again.
 *
 * @property attempts failures in a row, without a byte between them, after which the install ends
 */
class Persistence(val attempts: Int = 5, val firstWaitMs: Long = 1_000)

/**
 * Brings a bundle into the library: fetches what is missing, and checks every byte of it.
 *
 * What was fetched before the process was killed is kept, and the next install of the same bundle
 * goes on from there. Nothing is installed whose sizes and hashes are not those of the manifest.
 *
 * @param freeBytes room on the disk that a path lies on
 */
class Installer(
    private val library: BundleLibrary,
    private val persistence: Persistence = Persistence(),
    private val freeBytes: (Path) -> Long = { it.toFile().usableSpace },
) {
    /**
     * Installs, blocking its thread between suspensions; cancelling keeps what was fetched.
     *
     * @throws BundleException what came is no bundle, or not the one its manifest describes
     * @throws InstallException there is no room, or the source gives up
     */
    suspend fun install(source: BundleSource, report: (InstallProgress) -> Unit = {}): Path {
        val manifest = stageManifest(source)
        val total = manifest.files.values.sumOf { it.bytes }
        checkRoom(manifest)
        var before = 0L
        for ((name, info) in manifest.files) {
            val base = before
            Fetch(source, name, info).run { report(InstallProgress.Fetching(name, base + it, total)) }
            before += info.bytes
        }
        try {
            Bundle.open(library.staging, verify = true, notes = library.notes) { report(InstallProgress.Checking(it, total)) }
        } catch (error: BundleException) {
            library.discardStaging()
            throw error
        }
        return library.adopt(manifest.sha256)
    }

    /** Fetches the manifest; files that were staged for another one are forgotten. */
    private suspend fun stageManifest(source: BundleSource): Manifest {
        val bytes = retrying({ 0L }) { source.open(MANIFEST_FILE, 0).use(::readManifestBytes) }
        val path = library.staging.resolve(MANIFEST_FILE)
        if (!Files.exists(path) || !Files.readAllBytes(path).contentEquals(bytes)) {
            library.discardStaging()
            replaceFile(path, bytes)
        }
        return try {
            readManifest(library.staging)
        } catch (error: BundleException) {
            library.discardStaging()
            throw error
        }
    }

    private fun readManifestBytes(stream: InputStream): ByteArray {
        val bytes = ByteArrayOutputStream()
        val chunk = ByteArray(CHUNK_BYTES)
        while (true) {
            val count = stream.read(chunk)
            if (count < 0) return bytes.toByteArray()
            bytes.write(chunk, 0, count)
            if (bytes.size() > MAX_MANIFEST_BYTES) throw BundleException("$MANIFEST_FILE: must have at most $MAX_MANIFEST_BYTES bytes")
        }
    }

    private fun checkRoom(manifest: Manifest) {
        val needed = manifest.files.entries.sumOf { (name, info) -> maxOf(0, info.bytes - staged(name)) } + SPARE_BYTES
        val free = freeBytes(library.staging)
        if (free < needed) throw InstallException("storage: needs ${needed shr 20} MB free, has ${free shr 20} MB")
    }

    private fun staged(name: String): Long = maxOf(sizeOf(library.staging.resolve(name)), sizeOf(partOf(name)))

    private fun partOf(name: String): Path = library.staging.resolve("$name.part")

    /** Repeats what fails with an IOException; a failure after progress counts from one again. */
    private suspend fun <T> retrying(progress: () -> Long, work: suspend () -> T): T {
        var failures = 0
        var reached = progress()
        while (true) {
            try {
                return work()
            } catch (error: IOException) {
                failures = if (progress() > reached) 1 else failures + 1
                reached = progress()
                if (failures >= persistence.attempts) throw InstallException("the bundle cannot be fetched: ${error.message}", error)
                delay(persistence.firstWaitMs shl (failures - 1))
            }
        }
    }

    /** One file: what is there is kept, the rest appended, and the whole hashed on the way. */
    private inner class Fetch(private val source: BundleSource, private val name: String, private val info: FileInfo) {
        private val part = partOf(name)
        private val digest = MessageDigest.getInstance("SHA-256")
        private var done = 0L

        suspend fun run(report: (Long) -> Unit) {
            val whole = library.staging.resolve(name)
            if (Files.exists(whole) && sizeOf(whole) == info.bytes) return report(info.bytes)
            Files.createDirectories(part.parent)
            if (sizeOf(part) > info.bytes) Files.delete(part)
            if (Files.exists(part)) rehash()
            retrying({ done }) { if (done < info.bytes || !Files.exists(part)) append(report) }
            val found = digest.digest().joinToString("") { "%02x".format(it) }
            if (found != info.sha256) {
                Files.delete(part)
                throw BundleException("$name: SHA-256 must be ${info.sha256}, is $found; install the bundle again")
            }
            Files.move(part, whole, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
            report(info.bytes)
        }

        private fun rehash() = Files.newInputStream(part).use { stream ->
            val chunk = ByteArray(CHUNK_BYTES)
            while (true) {
                val count = stream.read(chunk)
                if (count < 0) break
                digest.update(chunk, 0, count)
                done += count
            }
        }

        private suspend fun append(report: (Long) -> Unit) {
            val chunk = ByteArray(CHUNK_BYTES)
            source.open(name, done).use { stream ->
                FileOutputStream(part.toFile(), true).use { file ->
                    while (done < info.bytes) {
                        currentCoroutineContext().ensureActive()
                        val count = stream.read(chunk, 0, minOf(info.bytes - done, chunk.size.toLong()).toInt())
                        if (count < 0) throw IOException("$name: ended after $done of ${info.bytes} bytes")
                        file.write(chunk, 0, count)
                        digest.update(chunk, 0, count)
                        done += count
                        report(done)
                    }
                    file.fd.sync()
                }
            }
        }
    }
}

private fun sizeOf(path: Path): Long = if (Files.exists(path)) Files.size(path) else 0
