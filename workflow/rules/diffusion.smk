# SPDX-License-Identifier: Apache-2.0
# Latents and captions, training of diffusion models, generation and efficiency.


rule encode_latents:
    input:
        weights=jobs.final_weights,
    output:
        "results/{benchmark}/latents/{dataset}-{resolution}/{autoencoder}/index.json",
    log:
        "results/{benchmark}/logs/latents/{dataset}-{resolution}-{autoencoder}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=1440,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        weights=jobs.weights_option,
        folder=lambda wildcards, output: dirname(output[0]),
        config=jobs.latents_config,
        code=jobs.latents_code,
    message:
        "latents of {wildcards.dataset} at {wildcards.resolution} px by {wildcards.autoencoder}"
    shell:
        "{params.launch} encode {params.file} --autoencoder {wildcards.autoencoder} {params.weights}"
        " --dataset {wildcards.dataset} --resolution {wildcards.resolution} --output {params.folder}"
        " 2>&1 | tee -i {log}"


rule encode_captions:
    output:
        "results/{benchmark}/captions/{dataset}-{split}/{diffusion}/index.json",
    log:
        "results/{benchmark}/logs/captions/{dataset}-{split}-{diffusion}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=720,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        folder=lambda wildcards, output: dirname(output[0]),
        config=jobs.captions_config,
        code=jobs.captions_code,
    message:
        "captions of {wildcards.dataset}, {wildcards.split}, by the text encoder of {wildcards.diffusion}"
    shell:
        "{params.launch} captions {params.file} --diffusion {wildcards.diffusion} --dataset {wildcards.dataset}"
        " --split {wildcards.split} --output {params.folder} 2>&1 | tee -i {log}"


rule train_denoiser:
    input:
        weights=jobs.final_weights,
        latents=jobs.latents,
        captions=jobs.captions,
    output:
        config="results/{benchmark}/diffusion/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}/config.json",
        weights="results/{benchmark}/diffusion/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}/model.safetensors",
    log:
        "results/{benchmark}/logs/train/{dataset}-{resolution}-{autoencoder}-{diffusion}-p{patch_size}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=1440,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        weights=jobs.weights_option,
        latents=jobs.latents_option,
        captions=jobs.captions_option,
        folder=lambda wildcards, output: dirname(output.config),
        config=jobs.denoiser_config,
        code=jobs.denoiser_code,
    message:
        "training {wildcards.diffusion}, patch size {wildcards.patch_size}, on latents of {wildcards.autoencoder}"
    shell:
        "{params.launch} train denoiser {params.file} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} {params.weights} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} {params.latents} {params.captions} --output {params.folder}"
        " --state {params.folder}.state"
        " ${{SLURM_JOB_ID:+--time-limit {resources.runtime}}} 2>&1 | tee -i {log}"


rule evaluate_generation:
    input:
        denoiser=jobs.denoiser,
        weights=jobs.final_weights,
        captions=jobs.evaluation_captions,
        reference=jobs.generation_reference,
    output:
        record="results/{benchmark}/records/generation/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}.json",
        images="results/{benchmark}/samples/generation/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}.png",
    log:
        "results/{benchmark}/logs/generation/{dataset}-{resolution}-{autoencoder}-{diffusion}-p{patch_size}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=720,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        weights=jobs.weights_option,
        denoiser=jobs.denoiser_option,
        captions=jobs.evaluation_captions_option,
        features="results/{benchmark}/generated/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}",
        config=jobs.generation_config,
        code=jobs.generation_code,
    message:
        "samples of {wildcards.diffusion}, patch size {wildcards.patch_size}, decoded by {wildcards.autoencoder}"
    shell:
        "{params.launch} generate {params.file} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} {params.weights} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} {params.denoiser} {params.captions} --reference {input.reference}"
        " --features {params.features} --record {output.record} --images {output.images} 2>&1 | tee -i {log}"


rule profile_efficiency:
    output:
        "results/{benchmark}/records/efficiency/{dataset}-{resolution}/{autoencoder}/{diffusion}-p{patch_size}.json",
    log:
        "results/{benchmark}/logs/efficiency/{dataset}-{resolution}-{autoencoder}-{diffusion}-p{patch_size}.log",
    # All cores, so that nothing else runs beside a measurement of speed.
    threads: workflow.cores
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        file=jobs.file,
        config=jobs.efficiency_config,
        code=jobs.efficiency_code,
    message:
        "speed and memory of {wildcards.diffusion}, patch size {wildcards.patch_size}, at the latents of {wildcards.autoencoder}"
    shell:
        "dcae profile {params.file} --diffusion {wildcards.diffusion} --patch-size {wildcards.patch_size}"
        " --autoencoder {wildcards.autoencoder} --dataset {wildcards.dataset} --resolution {wildcards.resolution}"
        " --record {output} 2>&1 | tee -i {log}"
