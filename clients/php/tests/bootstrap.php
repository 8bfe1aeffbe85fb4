<?php

declare(strict_types=1);

// Without Composer: load the library, its tests, and Predis if it is installed.
spl_autoload_register(static function (string $class): void {
    $directories = [
        'MemoryWorker\\Tests\\' => __DIR__,
        'MemoryWorker\\Examples\\' => dirname(__DIR__) . '/examples',
        'MemoryWorker\\' => dirname(__DIR__) . '/src',
    ];
    foreach ($directories as $prefix => $directory) {
        if (str_starts_with($class, $prefix)) {
            $path = $directory . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
            if (is_file($path)) {
                require $path;
            }

            return;
        }
    }
});
$autoloaders = [
    getenv('PREDIS_AUTOLOAD'),
    dirname(__DIR__) . '/vendor/autoload.php',
    '/usr/share/php/Predis/autoload.php',
];
foreach ($autoloaders as $file) {
    if (is_string($file) && is_file($file)) {
        require_once $file;
        break;
    }
}
