package foggen.app.support

import foggen.app.install.BundleLibrary
import foggen.app.install.HttpSource
import foggen.app.install.Installer
import kotlinx.coroutines.runBlocking
import java.nio.file.Paths

/** Installs from a URL into a directory, in a process that a test may kill. */
fun main(arguments: Array<String>): Unit = runBlocking {
    Installer(BundleLibrary(Paths.get(arguments[1]))).install(HttpSource(arguments[0], allowLoopback = true))
    println("installed")
}
