// Not yet run: what is built and tested is build.sh, with pom.xml.
plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "foggen.app"
    compileSdk = 35

    defaultConfig {
        applicationId = "foggen.app"
        minSdk = 27
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
    sourceSets {
        getByName("main").kotlin.srcDir("src/main/kotlin")
        getByName("test").kotlin.srcDir("src/test/kotlin")
    }
    // Weights are read from where they are installed; inside the APK they only pass through.
    androidResources { noCompress += listOf("data", "onnx") }
    testOptions {
        unitTests.all {
            it.useJUnitPlatform()
            it.systemProperty("foggen.test.data", System.getProperty("foggen.test.data").orEmpty())
        }
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)
    testImplementation(libs.onnxruntime)
    testImplementation(libs.jna)
    testImplementation(libs.junit)
}
