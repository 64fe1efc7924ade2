package foggen.support

import com.google.gson.JsonObject
import foggen.json.parseJson
import org.junit.jupiter.api.Assumptions
import java.io.File
import java.net.ConnectException
import java.net.URL

/** The fault server of the Python tests, in a process of its own. */
class FaultServer : AutoCloseable {
    private val process: Process
    private val port: Int

    init {
        val python = System.getProperty("foggen.python").orEmpty()
        Assumptions.assumeTrue(System.getProperty("foggen.test.data").orEmpty().isNotEmpty(), "needs the repository")
        process = ProcessBuilder(python, "-m", "tests.support.fault_server", "--port", "0", "--fault-rate", "0.3")
            .directory(File("../..").canonicalFile)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start()
        port = checkNotNull(process.inputStream.bufferedReader().readLine()) { "the fault server did not start" }.trim().toInt()
    }

    fun always(fault: String) = "http://127.0.0.1:$port/fault/$fault/v1"

    fun once(fault: String) = "http://127.0.0.1:$port/once/$fault/v1"

    val drawn get() = "http://127.0.0.1:$port/v1"

    fun stats(): JsonObject = parseJson(URL("http://127.0.0.1:$port/stats").readText()).asJsonObject

    /** Returns when the server takes connections. */
    fun await() {
        repeat(100) {
            try {
                stats()
                return
            } catch (_: ConnectException) {
                Thread.sleep(20)
            }
        }
        error("the fault server takes no connections")
    }

    override fun close() {
        process.destroy()
        process.waitFor()
    }
}
