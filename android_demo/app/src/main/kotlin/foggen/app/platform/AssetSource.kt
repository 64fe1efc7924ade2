package foggen.app.platform

import android.content.res.AssetManager
import foggen.app.install.BundleSource
import foggen.app.install.InstallException
import foggen.app.install.dropBytes
import java.io.FileNotFoundException
import java.io.InputStream

/** A bundle in an asset pack that was installed with the application, or in the application itself. */
class AssetSource(private val assets: AssetManager, private val folder: String = "bundle") : BundleSource {
    override fun open(name: String, offset: Long): InputStream =
        try {
            assets.open("$folder/$name", AssetManager.ACCESS_STREAMING).apply { dropBytes(offset) }
        } catch (error: FileNotFoundException) {
            throw InstallException("$folder/$name: this build has no asset pack with a bundle", error)
        }
}
