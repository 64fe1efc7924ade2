package foggen.support

import foggen.AskOptions
import foggen.Foggen
import foggen.OpenOptions
import foggen.OrtEngineFactory
import foggen.Route
import foggen.engine.EngineOptions
import foggen.engine.ONNXRUNTIME_VERSION
import foggen.json.parseJson
import kotlinx.coroutines.runBlocking
import java.nio.file.Paths

/**
 * Answers questions for `benchmarks/jvm.py`: a JSON string on each line of standard input, a result on
 * each line of standard output. Arguments: the bundle and the number of threads.
 */
fun main(arguments: Array<String>) = runBlocking {
    val engine = OrtEngineFactory(EngineOptions(threads = arguments[1].toInt()))
    Foggen.open(Paths.get(arguments[0]), options = OpenOptions(engine = engine)).use { foggen ->
        println("ready $ONNXRUNTIME_VERSION")
        for (line in generateSequence(::readLine)) {
            println(foggen.ask(parseJson(line).asString, AskOptions(route = Route.AUTO)).toJsonString())
        }
    }
}
