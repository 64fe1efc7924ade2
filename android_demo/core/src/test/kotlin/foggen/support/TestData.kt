package foggen.support

import com.google.gson.JsonElement
import foggen.json.parseJson
import org.junit.jupiter.api.Assumptions
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths

/** What `python -m tests.golden.prepare` made; tests that need it are skipped where none is named. */
object TestData {
    val root: Path
        get() {
            val named = System.getProperty("foggen.test.data").orEmpty()
            Assumptions.assumeTrue(named.isNotEmpty(), "run with -Dfoggen.test.data=DIRECTORY")
            return Paths.get(named).also { check(Files.isDirectory(it)) { "$it: is missing; run tests.golden.prepare" } }
        }

    fun bundle(recipe: String): Path = root.resolve("bundles").resolve(recipe)

    fun json(name: String): JsonElement = Files.newBufferedReader(root.resolve(name)).use { parseJson(it) }

    /** Gives each line of a file of JSON lines, one at a time. */
    fun forEachLine(name: String, use: (JsonElement) -> Unit) {
        var count = 0
        Files.newBufferedReader(root.resolve(name)).useLines { lines -> lines.forEach { use(parseJson(it)); count++ } }
        check(count > 0) { "$name: has no lines" }
    }

    /** Copies a bundle where a test may alter it. */
    fun copy(recipe: String, target: Path): Path {
        Files.list(bundle(recipe)).use { files ->
            files.filter { !it.fileName.toString().startsWith(".") }.forEach { Files.copy(it, target.resolve(it.fileName)) }
        }
        return target
    }
}
