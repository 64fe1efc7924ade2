package foggen.app.install

import java.io.FileOutputStream
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption

private const val CURRENT_FILE = "current"
private const val NAME_DIGITS = 16

/**
 * Where bundles lie: one that is installed, and one that is on its way.
 *
 * @param root a directory that only this application writes
 */
class BundleLibrary(private val root: Path) {
    /** Files that are being fetched; they survive a killed process. */
    val staging: Path get() = root.resolve("staging")

    /** Notes that files were verified: beside the bundles, not in them. */
    val notes: Path get() = root.resolve("verified")

    /** The installed bundle; null before the first. */
    fun current(): Path? =
        try {
            root.resolve(String(Files.readAllBytes(root.resolve(CURRENT_FILE)))).takeIf { Files.isDirectory(it) }
        } catch (_: IOException) {
            null
        }

    /** Makes what is staged, complete and checked, the installed bundle; forgets the one before. */
    fun adopt(sha256: String): Path {
        val name = "bundle-" + sha256.take(NAME_DIGITS)
        val target = root.resolve(name)
        deleteTree(target)
        Files.move(staging, target, StandardCopyOption.ATOMIC_MOVE)
        replaceFile(root.resolve(CURRENT_FILE), name.toByteArray())
        Files.list(root).use { all ->
            all.filter { it.fileName.toString().startsWith("bundle-") && it != target }.forEach(::deleteTree)
        }
        return target
    }

    /** Forgets what was staged. */
    fun discardStaging() = deleteTree(staging)
}

/** Writes a file under a temporary name and moves it into place. */
internal fun replaceFile(path: Path, bytes: ByteArray) {
    Files.createDirectories(path.parent)
    val temporary = Files.createTempFile(path.parent, ".${path.fileName}.", null)
    try {
        FileOutputStream(temporary.toFile()).use {
            it.write(bytes)
            it.fd.sync()
        }
        Files.move(temporary, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    } finally {
        Files.deleteIfExists(temporary)
    }
}

private fun deleteTree(path: Path) {
    path.toFile().deleteRecursively()
}
